"""Monitor: the engine's only lock, a wake-up for each batching thread, and the delivery of outcomes
once the lock is released."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable

from batcher.clock import Clock
from batcher.request import Outcome, Request, Sink

_log = logging.getLogger(__name__)

Outbox = dict[Sink, list[tuple[Request, Outcome]]]
"""Outcomes that are decided and not delivered yet, by sink."""


class Monitor:
    """`with monitor as outcomes:` holds the lock; what was added to `outcomes` is delivered once it
    is released."""

    def __init__(self, clock: Clock, replicas: int, before_delivery: Callable[[], None]) -> None:
        """`before_delivery` is called under the lock, when there are outcomes."""
        self.lock = threading.Lock()
        self.free = set[int]()  # replicas whose threads wait for their wake-up
        self._clock = clock
        self._before_delivery = before_delivery
        self._outcomes: Outbox = defaultdict(list)  # of the thread that holds the lock
        # One per replica: notified on new work, on a change of its state, and of the phase.
        self._wakeups = [threading.Condition(self.lock) for _ in range(replicas)]
        self._finished = threading.Condition(self.lock)

    def __enter__(self) -> Outbox:
        self.lock.acquire()
        self._outcomes = defaultdict(list)
        return self._outcomes

    def __exit__(self, *error: object) -> None:
        outcomes = self._outcomes
        try:
            if outcomes:
                self._before_delivery()
        finally:
            self.lock.release()
        if outcomes:
            deliver(outcomes)

    # With the lock

    def wait_for_work(self, replica: int, until: float) -> None:
        self.free.add(replica)
        try:
            self._wait(self._wakeups[replica], until)
        finally:
            self.free.discard(replica)

    def wait_until_finished(self, until: float) -> None:
        self._wait(self._finished, until)

    def _wait(self, condition: threading.Condition, until: float) -> None:
        own = self._outcomes
        try:
            self._clock.wait(condition, until if until < math.inf else None)
        finally:
            self._outcomes = own  # other threads have held the lock meanwhile

    def wake(self, replica: int) -> None:
        self._wakeups[replica].notify()

    def wake_all(self) -> None:
        for wakeup in self._wakeups:
            wakeup.notify_all()
        self._finished.notify_all()


def deliver(outcomes: Outbox) -> None:
    """Without the lock. Once per sink, so once per batch and event loop."""
    for sink, settled in outcomes.items():
        try:
            sink.deliver(settled)
        except Exception:  # it broke its contract; the other callers must not pay for that
            _log.exception("a sink failed; %d outcomes are lost", len(settled))
