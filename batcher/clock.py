"""Time, handed in. The only file that names time.monotonic."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Waits on `condition`, whose lock the caller holds, to be notified or for `until` to come.

        May return early: the caller looks again, as with any condition.
        """


class MonotonicClock:
    now = staticmethod(time.monotonic)  # a method around it would take longer than it does

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        if until is None:
            condition.wait()
        else:
            condition.wait(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
