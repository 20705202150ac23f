"""Time, handed in. The only file that names time.monotonic."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def condition(self, lock: threading.Lock) -> threading.Condition:
        """Whose timeouts are on this clock."""


class MonotonicClock:
    # A method around either would take longer than it does.
    now = staticmethod(time.monotonic)
    condition = staticmethod(threading.Condition)
