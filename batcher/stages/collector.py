"""StageCollector: a collector that Stages looks into, and that waits for its leave."""

from __future__ import annotations

from collections.abc import Callable

from batcher.collector import Collector
from batcher.errors import NotReady
from batcher.scheduling.schedule import Schedule


class StageCollector(Collector):
    @property
    def schedule(self) -> Schedule:
        """Read without the lock: its numbers may be of two instants."""
        return self._schedule

    def not_ready(self) -> NotReady | None:
        """Why it takes nothing at present: no worker is up, nor expected soon."""
        with self._lock:
            may_recover = self._supervision.may_recover
            return None if may_recover else self._supervision.not_ready(self.clock.now())

    def on_release(self, call: Callable[[], None]) -> None:
        self._monitor.on_released = call

    def wake(self) -> None:
        """What kept it from new work is over."""
        with self._lock:
            self._wake_one()
