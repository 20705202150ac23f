"""Connections in one state, such as idle, and what becomes of one that stays in it for too long."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Overdue(Generic[Connection]):
    """They come in the order of their start, so one timer does for all. All is O(1) each."""

    def __init__(self, seconds: float, expire: Callable[[Connection], None]) -> None:
        self.seconds = seconds
        self._expire = expire
        # Longest there first; the value is when it came, on the loop's clock. No plain dict:
        # finding its first key again takes a walk over all that were removed before it.
        self._since: OrderedDict[Connection, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: Connection) -> None:
        """One that is not there."""
        loop = self._loop or self._find_loop()
        self._since[connection] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._look)

    def remove(self, connection: Connection) -> None:
        """One that is not there is no error."""
        self._since.pop(connection, None)

    def all(self) -> list[Connection]:
        return list(self._since)

    def oldest(self, at_least: float = 0.0) -> Connection | None:
        """The one that has been here for longest, if for so many seconds."""
        if not self._since:
            return None
        connection, since = next(iter(self._since.items()))
        ripe = since + at_least <= asyncio.get_running_loop().time()
        return connection if ripe else None

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        # uvloop's timers have a resolution of 1 ms, and its clock too.
        horizon = loop.time() - self.seconds + 0.001
        while self._since and next(iter(self._since.values())) <= horizon:
            self._expire(self._since.popitem(last=False)[0])
        if self._since and self._timer is None:  # what expired may have come back, and set it
            due = next(iter(self._since.values())) - horizon
            self._timer = loop.call_later(max(0.001, due), self._look)
