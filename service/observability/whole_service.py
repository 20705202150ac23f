"""The metrics of the whole service at one instant, whatever its number of processes.

LocalView: there is only this process. RemoteView: asks the engine's process, where the
FrontendRegistry has the counts of all frontends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from batcher import Client, NotReady, Snapshot
from batcher.client import Entrance
from batcher.remote.client import RemoteClient
from batcher.remote.messages import snapshot_from
from batcher.remote.server import FrontendSession
from service.observability.http_counts import Counts, HttpDurations, added, as_json, counts_from

_REPLY_TIMEOUT = 0.5  # seconds for a frontend to say what it has counted


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    snapshot: Snapshot
    http: Counts
    # By number: whether what it has counted is of now. Empty: there is but this process.
    frontends: Mapping[int, bool] = field(default_factory=dict)


class ServiceView(Protocol):
    async def take(self) -> ServiceSnapshot:
        """Raises NotReady while there is no engine to ask."""


class _Frontend(Protocol):
    @property
    def client(self) -> Client: ...
    @property
    def tally(self) -> HttpDurations: ...


class LocalView:
    def __init__(self, frontend: _Frontend) -> None:
        self._frontend = frontend  # not its client: that is another one once the model is there

    async def take(self) -> ServiceSnapshot:
        return ServiceSnapshot(
            await self._frontend.client.snapshot(), self._frontend.tally.snapshot()
        )


class RemoteView:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def take(self) -> ServiceSnapshot:
        whole = await self._client.query("whole")
        frontends = {int(number): is_fresh for number, is_fresh in whole["frontends"].items()}
        return ServiceSnapshot(
            snapshot_from(whole["snapshot"]), counts_from(whole["http"]), frontends
        )


class FrontendRegistry:
    """All frontends, in the engine's process: where their calls come in, and their HTTP counts.

    A dead frontend loses only its counts since the last scrape; totals never decrease unless the
    engine restarts.
    """

    def __init__(self, collector: Entrance, count: int) -> None:
        self._collector = collector
        self._count = count
        self._sessions: dict[int, FrontendSession] = {}
        self._last: dict[FrontendSession, Counts] = {}  # as each reported last
        self._gone: Counts = {}  # of those that have exited

    async def join(self, number: int, end: socket.socket) -> None:
        """Replaces the frontend of that number, if there was one."""
        session = FrontendSession(self._collector, f"frontend-{number}", self._asked, self._lost)
        self._sessions[number] = session
        await session.attach(end)

    async def close(self) -> None:
        for session in list(self._sessions.values()):
            await session.close()

    async def _asked(self, subject: str) -> object:
        assert subject == "whole", f"asked for {subject}: this is a bug"
        present = dict(self._sessions)
        looks = await asyncio.gather(*map(self._look, present.values()))
        frontends = dict.fromkeys(range(self._count), False) | dict(
            zip(present, looks, strict=True)
        )
        http = self._gone
        for counts in self._last.values():
            http = added(http, counts)
        return {
            "snapshot": self._collector.snapshot(),
            "http": as_json(http),
            "frontends": frontends,
        }

    async def _look(self, session: FrontendSession) -> bool:
        """Whether it has reported its counts of now."""
        try:
            counts = counts_from(await session.query("tally", _REPLY_TIMEOUT))
        except NotReady:
            return False
        if session not in self._sessions.values():  # it answered, and died
            return False
        self._last[session] = counts
        return True

    def _lost(self, session: FrontendSession) -> None:
        for number, each in list(self._sessions.items()):
            if each is session:
                del self._sessions[number]
        self._gone = added(self._gone, self._last.pop(session, {}))
