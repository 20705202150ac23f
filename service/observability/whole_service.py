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
from batcher.remote.messages import Json
from batcher.remote.server import Reception
from batcher.remote.told import snapshot_from, told_snapshot
from service.observability.http_counts import Counts, added, counts_from, told
from service.observability.prometheus import Tally

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
    def tally(self) -> Tally: ...


class Alone:
    def __init__(self, front: _Frontend) -> None:
        self._front = front  # not its client: that is another one once the model is there

    async def take(self) -> Whole:
        return Whole(await self._front.client.snapshot(), self._front.tally.snapshot())


class Elsewhere:
    def __init__(self, client: RemoteClient) -> None:
        self._client = client

    async def take(self) -> Whole:
        whole = await self._client.ask("whole")
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
        self._receptions: dict[int, Reception] = {}
        self._last: dict[Reception, Counts] = {}  # as each last told
        self._gone: Counts = {}  # of those that are no more

    async def join(self, number: int, end: socket.socket) -> None:
        """A new one with that number, if there was one before it."""
        reception = Reception(self._collector, f"front-{number}", self._asked, self._lost)
        self._receptions[number] = reception
        await reception.attach(end)

    async def close(self) -> None:
        for reception in list(self._receptions.values()):
            await reception.close()

    async def _asked(self, subject: str) -> Json:
        assert subject == "whole", f"asked for {subject}: this is a bug"
        present = dict(self._receptions)
        looks = await asyncio.gather(*map(self._look, present.values()))
        fronts = dict.fromkeys(range(self._count), False) | dict(zip(present, looks, strict=True))
        http = self._gone
        for counts in self._last.values():
            http = added(http, counts)
        snapshot = told_snapshot(self._collector.snapshot())
        return {"snapshot": snapshot, "http": told(http), "fronts": fronts}

    async def _look(self, reception: Reception) -> bool:
        """Whether it has told what it has counted by now."""
        try:
            counts = counts_from(await reception.ask("tally", _PATIENCE))
        except NotReady:
            return False
        if reception not in self._receptions.values():  # it told, and died
            return False
        self._last[reception] = counts
        return True

    def _lost(self, reception: Reception) -> None:
        for number, each in list(self._receptions.items()):
            if each is reception:
                del self._receptions[number]
        self._gone = added(self._gone, self._last.pop(reception, {}))
