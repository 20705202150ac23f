"""Heartbeats: which process must be pinged, and which has not answered for too long? Pure: time is
handed in; the caller pings and kills.

A process that is up is pinged at an interval, and not again before it has answered. One that is
stopped or stuck never exits by itself: only a missed heartbeat reveals it.
"""

from __future__ import annotations

from collections.abc import Iterable

INTERVAL = 5.0  # seconds from one ping to the next: each wakes every process
# Seconds for an answer. A process that is merely busy answers sooner; so must the engine with a
# runner in its own process (isolation thread), which may not hold the interpreter for so long.
BOUND = 15.0
_OVERSLEPT = 1.0  # seconds


class Heartbeats:
    def __init__(self) -> None:
        self._pinged: dict[str, float] = {}  # when, of those that have not answered yet
        self._due: float | None = None  # the next round; None: there was none yet

    def ping(self, present: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Which are to be pinged now, and which have not answered within the bound."""
        if self._due is not None and now - self._due > _OVERSLEPT:
            # We were stopped ourselves, perhaps with the whole machine: the bound starts anew.
            self._pinged = dict.fromkeys(self._pinged, now)
        self._due = now + INTERVAL
        silent = [name for name, since in self._pinged.items() if now - since >= BOUND]
        pinged = [name for name in present if name not in self._pinged]
        self._pinged.update(dict.fromkeys(pinged, now))
        return pinged, silent

    def pong(self, name: str) -> None:
        """It has answered, or exited: the next of that name owes no answer."""
        self._pinged.pop(name, None)
