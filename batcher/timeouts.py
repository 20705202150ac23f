"""Timeouts on an event loop, for many things that nearly all end long before theirs.

A timer for each call costs a third of what submitting one does. TimeoutQueue needs one timer for
all things with the same timeout; Deadlines gives a call a timer of its own only once it is slow.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from batcher.clock import Clock

SLOW_AFTER = 0.1  # seconds
_TICK = 0.001  # seconds: the resolution of uvloop's clock, and of its timers

Item = TypeVar("Item")


class TimeoutQueue(Generic[Item]):
    """Calls `expire(item)` for each item that stays in the queue for `seconds`, which takes it out.

    The timeout is the same for all, so they expire in the order in which they came, and one timer
    does for all of them; no timer runs while the queue is empty. O(1) for each item.
    """

    def __init__(
        self,
        seconds: float,
        expire: Callable[[Item], object],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`loop`: if it is not given, the one that runs when the first item is added."""
        self.seconds = seconds
        self._expire = expire
        self._loop = loop
        # Oldest first; the value is when the item was added, on the loop's clock. Not a plain dict:
        # that finds its first key by walking over all that were removed before it.
        self._added: OrderedDict[Item, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._added)

    def add(self, item: Item) -> None:
        """`item` is hashable and not in the queue."""
        loop = self._loop or self._find_loop()
        self._added[item] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._expire_due)

    def remove(self, item: Item) -> None:
        """Does nothing if it is not in the queue."""
        self._added.pop(item, None)

    def all(self) -> list[Item]:
        return list(self._added)

    def oldest(self, at_least: float = 0.0) -> Item | None:
        """The first of the queue, if it has been there for `at_least` seconds."""
        if not self._added:
            return None
        item, added = next(iter(self._added.items()))
        loop = self._loop or self._find_loop()
        return item if added + at_least <= loop.time() else None

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _expire_due(self) -> None:
        loop = self._loop or self._find_loop()
        horizon = loop.time() - self.seconds + _TICK
        try:
            while self._added and next(iter(self._added.values())) <= horizon:
                self._expire(self._added.popitem(last=False)[0])
        finally:  # whatever `expire` raises, the others are not forgotten
            self._timer = None
            if self._added:
                remaining = next(iter(self._added.values())) - horizon
                self._timer = loop.call_later(max(_TICK, remaining), self._expire_due)

    def __repr__(self) -> str:
        return f"<TimeoutQueue of {len(self._added)}, {self.seconds} s>"


class Expiring(Protocol):
    deadline: float  # absolute, on the engine's clock

    def expire(self) -> None:
        """Its deadline has passed."""


class Deadlines:
    """Expires calls at their deadline. Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._quick: TimeoutQueue[Expiring] = TimeoutQueue(SLOW_AFTER, self._set_timer, loop)
        self._timers: dict[Expiring, asyncio.TimerHandle] = {}

    def watch(self, call: Expiring, now: float) -> None:
        """Until `ended`. `now` is on the clock, as the call's deadline is."""
        if call.deadline - now > SLOW_AFTER:
            self._quick.add(call)
        else:
            self._set_timer(call)

    def ended(self, call: Expiring) -> None:
        self._quick.remove(call)
        if self._timers and (timer := self._timers.pop(call, None)) is not None:
            timer.cancel()

    def _set_timer(self, call: Expiring) -> None:
        remaining = call.deadline - self._clock.now()
        self._timers[call] = self._loop.call_later(max(0.0, remaining), call.expire)

    def __repr__(self) -> str:
        return f"<Deadlines of {len(self._quick) + len(self._timers)} calls>"
