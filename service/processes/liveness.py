"""Who has not answered for too long? Pure: time is handed in, and others ask and kill.

Each process that is up is asked at an interval, and not again before it has answered. One that is
stopped, or whose event loop is stuck, does not: it serves nobody, and never dies of it. That a
process has ended is heard of by itself; of this there is no other sign.
"""

from __future__ import annotations

from collections.abc import Iterable

INTERVAL = 5.0  # seconds from one call to the next: each wakes every process
# Seconds for an answer. One that is merely busy comes round to it sooner; so must the engine with a
# runner in its own process (isolation thread), which may not hold the interpreter for so long.
BOUND = 15.0
_OVERSLEPT = 1.0  # seconds


class RollCall:
    def __init__(self) -> None:
        self._asked: dict[str, float] = {}  # since when each owes an answer
        self._due: float | None = None  # of the next call; None: there was none yet

    def call(self, present: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Who is to be asked now, and who has not answered within the bound."""
        if self._due is not None and now - self._due > _OVERSLEPT:
            # We were stopped ourselves, perhaps with the whole machine: they have the bound anew.
            self._asked = dict.fromkeys(self._asked, now)
        self._due = now + INTERVAL
        silent = [name for name, since in self._asked.items() if now - since >= BOUND]
        asked = [name for name in present if name not in self._asked]
        self._asked.update(dict.fromkeys(asked, now))
        return asked, silent

    def heard(self, name: str) -> None:
        """It has answered; or it is no more, and the next of that name owes nothing."""
        self._asked.pop(name, None)
