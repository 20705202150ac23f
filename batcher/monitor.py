"""Monitor: the engine's only lock and its phase, a wake-up for each batching thread, and the
delivery of outcomes once the lock is released."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

from batcher.clock import Clock
from batcher.request import Outbox

_log = logging.getLogger(__name__)


class Monitor:
    """`with monitor as outcomes:` holds the lock; what was added to `outcomes` is delivered once it
    is released. Nothing may wait in it: a wait lets other threads in."""

    def __init__(self, clock: Clock, replicas: int, is_finished: Callable[[], bool]) -> None:
        """`is_finished`: will no batch ever come again? Then all that wait are to know."""
        self.lock = threading.Lock()
        self.phase = "open"  # then draining, then closed
        self.free = set[int]()  # replicas whose threads wait for their wake-up
        # One per replica: notified on new work, on a change of its state, and of the phase.
        self.wakeups = [clock.condition(self.lock) for _ in range(replicas)]
        self._finished = clock.condition(self.lock)
        self._clock = clock
        self._is_finished = is_finished
        self._outcomes: Outbox = {}  # of the thread that holds the lock
        # Called after the queue may have become shorter, without the lock: see stages/.
        self.on_released: Callable[[], None] | None = None

    def __enter__(self) -> Outbox:
        self.lock.acquire()
        self._outcomes = defaultdict(list)
        return self._outcomes

    def __exit__(self, *error: object) -> None:
        outcomes = self._outcomes
        self.lock.release()
        self.released(outcomes)

    def released(self, outcomes: Outbox) -> None:
        """Delivers what was decided under the lock."""
        if outcomes:
            self.deliver(outcomes)
        if self.on_released is not None:
            self.on_released()

    def deliver(self, outcomes: Outbox) -> None:
        """Without the lock. Once per sink, so once per batch and event loop."""
        # Safe without the lock: the thread that made it so looks after that.
        if self.phase != "open" and self._is_finished():
            with self.lock:
                self.wake_all()
        hand_out(outcomes)

    # With the lock

    def wait_for_work(self, replica: int, until: float) -> None:
        self.free.add(replica)
        try:
            self.wakeups[replica].wait(self._seconds_until(until))
        finally:
            self.free.discard(replica)

    def wait_until_finished(self, until: float) -> None:
        self._finished.wait(self._seconds_until(until))

    def _seconds_until(self, time: float) -> float | None:
        seconds = time - self._clock.now()
        return seconds if seconds < threading.TIMEOUT_MAX else None

    def wake_all(self) -> None:
        for wakeup in (*self.wakeups, self._finished):
            wakeup.notify_all()


def hand_out(outcomes: Outbox) -> None:
    """To the sinks, once each. Without any lock."""
    for sink, settled in outcomes.items():
        try:
            sink.deliver(settled)
        except Exception:  # it broke its contract; the other callers must not pay for that
            _log.exception(
                "delivering %d results failed; their callers get no answer", len(settled)
            )
