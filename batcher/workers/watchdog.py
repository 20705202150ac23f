"""Watchdog: calls out when something is not done by its deadline. A thread that sleeps until then.

To arm and to disarm it costs a lock and wakes nobody, unless it would look too late: it wakes at
the deadline it last knew of, and then looks for how long it may sleep on. When nothing is armed it
sleeps for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from batcher.clock import Clock

_NEVER = float("inf")
_OVERSLEPT = 0.5  # seconds


class Watchdog:
    """`on_late` is called from the watchdog's thread, before a `disarm` under way returns."""

    def __init__(self, name: str, clock: Clock, on_late: Callable[[], None]) -> None:
        self._clock = clock
        self._on_late = on_late
        self._changed = threading.Condition()
        self._until = _NEVER
        self._looks_at = _NEVER
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=name)

    def start(self) -> None:
        """Idempotent."""
        if self._thread.ident is None:
            self._thread.start()

    def arm(self, seconds: float) -> None:
        """Late in `seconds` from now, unless disarmed or armed anew before."""
        with self._changed:
            self._until = self._clock.now() + seconds
            if self._until < self._looks_at:
                self._changed.notify()

    def disarm(self) -> None:
        with self._changed:
            self._until = _NEVER

    def stop(self) -> None:
        """Ends the thread and waits for that. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:  # else it was never started
            self._thread.join()

    def _main(self) -> None:
        with self._changed:
            while not self._closing:
                late = self._clock.now() - self._until
                if late > _OVERSLEPT:
                    # We were stopped ourselves, and so was whoever would have disarmed it.
                    self._until = self._clock.now() + _OVERSLEPT
                elif late >= 0.0:
                    self._until = _NEVER
                    self._on_late()
                self._looks_at = self._until
                self._clock.wait(self._changed, None if self._until == _NEVER else self._until)
