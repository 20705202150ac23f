"""The whole service at one instant, though it be several processes.

Alone: this process is all there is. Elsewhere: the engine's process knows (Fronts), and is asked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from batcher import Client, NotReady, Snapshot
from batcher.collector import Collector
from batcher.remote.client import RemoteClient
from batcher.remote.messages import snapshot_from
from batcher.remote.server import FrontendSession
from service.observability.http_counts import Counts, HttpDurations, added, counts_from, told

_PATIENCE = 0.5  # seconds for a front to say what it has counted


@dataclass(frozen=True, slots=True)
class Whole:
    snapshot: Snapshot
    http: Counts
    # By number: whether what it has counted is of now. Empty: there is but this process.
    fronts: Mapping[int, bool] = field(default_factory=dict)


class Census(Protocol):
    async def take(self) -> Whole:
        """Raises NotReady while there is no engine to ask."""


class _Frontend(Protocol):
    @property
    def client(self) -> Client: ...
    @property
    def tally(self) -> HttpDurations: ...


class Alone:
    def __init__(self, front: _Frontend) -> None:
        self._front = front  # not its client: that is another one once the model is there

    async def take(self) -> Whole:
        return Whole(await self._front.client.snapshot(), self._front.tally.snapshot())


class Elsewhere:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def take(self) -> Whole:
        whole = await self._client.query("whole")
        fronts = {int(number): is_fresh for number, is_fresh in whole["fronts"].items()}
        return Whole(snapshot_from(whole["snapshot"]), counts_from(whole["http"]), fronts)


class Fronts:
    """All fronts, as the engine's process knows them: where their calls come in, and what each has
    counted.

    What one has counted since it was last asked is lost with it; all else stays in the sum, so that
    no counter ever falls but with the engine itself.
    """

    def __init__(self, collector: Collector, count: int) -> None:
        self._collector = collector
        self._count = count
        self._sessions: dict[int, FrontendSession] = {}
        self._last: dict[FrontendSession, Counts] = {}  # as each last told
        self._gone: Counts = {}  # of those that are no more

    async def join(self, number: int, end: socket.socket) -> None:
        """A new one with that number, if there was one before it."""
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
        fronts = dict.fromkeys(range(self._count), False) | dict(zip(present, looks, strict=True))
        http = self._gone
        for counts in self._last.values():
            http = added(http, counts)
        return {"snapshot": self._collector.snapshot(), "http": told(http), "fronts": fronts}

    async def _look(self, session: FrontendSession) -> bool:
        """Whether it has told what it has counted by now."""
        try:
            counts = counts_from(await session.query("tally", _PATIENCE))
        except NotReady:
            return False
        if session not in self._sessions.values():  # it told, and died
            return False
        self._last[session] = counts
        return True

    def _lost(self, session: FrontendSession) -> None:
        for number, each in list(self._sessions.items()):
            if each is session:
                del self._sessions[number]
        self._gone = added(self._gone, self._last.pop(session, {}))
