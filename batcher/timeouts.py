"""Expiry: calls out when the deadline of a call has come, on its event loop.

Nearly every call is answered long before that, and a timer for each is a third of what submitting
one costs. So a call is only noted down; one that is still there after PATIENCE gets its timer then.
They come in the order of their start, so one timer sees to that; none runs when nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from batcher.futures import Call

PATIENCE = 0.1  # seconds

# Since when, when it is due (both on the loop's clock), and what to do then. No class of its own:
# making one of those takes longer than all the rest.
_Noted = tuple[Call, float, float, Callable[[Any], object], Any]


class Expiry:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Oldest first. Whoever has been answered goes as soon as nobody before them waits.
        self._noted: deque[_Noted] = deque()
        self._timers: dict[Call, asyncio.TimerHandle] = {}  # of those that have been there for long
        self._look_timer: asyncio.TimerHandle | None = None

    def watch(
        self, call: Call, remaining: float, expire: Callable[[Any], object], argument: Any
    ) -> None:
        """`expire(argument)` in so many seconds, unless it has ended by then."""
        if remaining <= PATIENCE:
            self._timers[call] = self._loop.call_later(remaining, expire, argument)
            return
        now = self._loop.time()
        self._noted.append((call, now, now + remaining, expire, argument))
        if self._look_timer is None:
            self._look_timer = self._loop.call_later(PATIENCE, self._look)

    def ended(self, call: Call) -> None:
        """It has its outcome, or its caller has gone."""
        if self._timers and (timer := self._timers.pop(call, None)) is not None:
            timer.cancel()
        noted = self._noted
        while noted and noted[0][0].future.done():
            noted.popleft()

    def _look(self) -> None:
        self._look_timer = None
        # uvloop's timers have a resolution of 1 ms, and its clock too.
        horizon = self._loop.time() - PATIENCE + 0.001
        while self._noted and self._noted[0][1] <= horizon:
            call, _, due, expire, argument = self._noted.popleft()
            if not call.future.done():
                self._timers[call] = self._loop.call_at(due, expire, argument)
        if self._noted:
            rest = max(0.001, self._noted[0][1] - horizon)
            self._look_timer = self._loop.call_later(rest, self._look)

    def __repr__(self) -> str:
        return f"<Expiry of {len(self._noted) + len(self._timers)} calls>"
