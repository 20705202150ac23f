"""Collector: submit, next_batch, settle, under the engine's only lock.

Under it `schedule` decides who is queued and which batch runs when; `supervision` knows who is up
and what is to blame for a lost worker; `sharing` runs equal inputs once; `ledger` counts;
`settlement` begins and ends batches. Never runs a model, never touches an event loop.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from batcher.clock import Clock
from batcher.errors import BatcherError
from batcher.ledger import Ledger
from batcher.limits import Limits
from batcher.monitor import Monitor
from batcher.request import Batch, BatchReport, Outbox, Request
from batcher.runner import RunnerInfo
from batcher.scheduling import dispatch
from batcher.scheduling.schedule import Schedule
from batcher.scheduling.sharing import Sharing
from batcher.settlement import Settlement, inspect, shutting_down
from batcher.snapshot import Snapshot
from batcher.supervision.supervision import Supervision


class Collector:
    def __init__(self, limits: Limits, clock: Clock, replicas: int = 1) -> None:
        self.limits = limits
        self.clock = clock
        self._monitor = Monitor(clock, replicas, self._is_finished)
        self._lock = self._monitor.lock
        self._schedule = Schedule(limits, replicas)
        self._supervision = Supervision(self._schedule.replicas, limits)
        self._sharing = Sharing(limits.share_equal, limits.cache_bytes)
        self._ledger = Ledger()
        self._settlement = Settlement(
            self._schedule, self._supervision, self._sharing, self._ledger
        )

    # What a caller does

    def submit(self, requests: Sequence[Request]) -> None:
        """Accepts all, or raises Refused or PoisonRequest and accepts none. Returns at once."""
        supervision, sharing = self._supervision, self._sharing
        # Safe without the lock: at worst it misses what is quarantined at this very moment.
        suspects = supervision.fingerprints(requests) if supervision.quarantine.until else ()
        with self._lock:
            now = self.clock.now()
            split = sharing.split(requests) if sharing.rows or sharing.cache else None
            new = requests if split is None else split.new
            refused: BatcherError | None = None
            if self._monitor.phase != "open":
                refused = shutting_down()
            elif suspects or not supervision.may_recover:
                refused = supervision.refusal(suspects, now)
            if refused is None and new:
                refused = self._schedule.admit(new, now)
            if refused is not None:
                self._ledger.counters.refused[type(refused).__name__] += len(requests)
                try:
                    raise refused
                finally:
                    del refused  # its traceback refers to this frame: no reference cycle
            self._ledger.counters.accepted += len(requests)
            outcomes = None if split is None else self._settlement.share(split, now)
            if self._monitor.free:
                self._wake_one()
        if outcomes:
            self._monitor.deliver(outcomes)

    def withdraw(self, requests: Sequence[Request], why: BatcherError) -> None:
        """What waits never runs, what runs loses its result."""
        with self._monitor as outcomes:
            self._settlement.withdraw(requests, why, outcomes)

    # What a batching thread does

    def next_batch(self, replica: int) -> Batch | None:
        """Blocks until a batch is due and takes it; one without requests asks for a canary. None:
        this replica is down, or all is done."""
        while True:
            outcomes: Outbox = defaultdict(list)
            with self._lock:
                batch = self._wait_for_batch(replica, outcomes)
            self._monitor.released(outcomes)
            if batch is not None or not outcomes:  # else the queue held only late requests
                return batch

    def next_batch_early(self, running: Batch) -> Batch | float | None:
        """Takes the batch that follows `running`, as late as possible but so that the replica need
        not wait for it. A float: ask again at that time. None: not before `running` has ended.
        Returns at once."""
        replica = running.replica
        if self._schedule.is_too_short(replica, running.predicted):
            return None  # most short batches have none, and need not contend for the lock
        outcomes: Outbox = defaultdict(list)
        with self._lock:
            # After a loss each batch runs alone, so that the next loss has one cause.
            if running.requests[0].workers_lost or not self._schedule.replicas[replica].is_up:
                return None
            now, draining = self.clock.now(), self._monitor.phase == "draining"
            due = self._schedule.early_at(replica, now, draining)
            if due > now:
                return due if due < math.inf else None
            # A canary is not put off by a stream of batches that all fail.
            if self._supervision.canary_due(replica) <= now:
                return None
            batch = self._settlement.cut(replica, now, draining, outcomes, True)
            self._wake_one()
        self._monitor.released(outcomes)
        return batch

    def settle(self, batch: Batch, results: Sequence[Any], seconds: float = 0.0) -> None:
        """Gives each request its outcome: one result per row, in order. A result that is an
        Exception fails the requests of its own row. `seconds` in the runner; 0: it failed."""
        assert len(results) == len(batch.requests), "not one result per row: this is a bug"
        results, errors = inspect(results)
        with self._monitor as outcomes:
            self._settlement.settle(batch, results, errors, seconds, self.clock.now(), outcomes)

    def fail(self, batch: Batch, error: BatcherError) -> None:
        """The same error for every request."""
        self.settle(batch, [error] * batch.size)

    def halve(self, batch: Batch, out_of_memory: bool = False) -> Sequence[Batch]:
        """Up to two batches, in order, of the requests that can still be in time."""
        with self._monitor as outcomes:
            return self._settlement.halve(batch, out_of_memory, self.clock.now(), outcomes)

    def requeue(self, batch: Batch, lost: bool) -> int:
        """To the front of the queue. `lost`: with its worker, which counts against each request.
        Returns how many were found to be poison, and failed."""
        with self._monitor as outcomes:
            self._monitor.wake_all()
            return self._settlement.requeue(batch, lost, self.clock.now(), outcomes)

    def is_in_flight(self, batch: Batch) -> bool:
        with self._lock:
            return batch in self._settlement.in_flight

    # What becomes of a replica, and of the engine

    def replica_up(self, replica: int, info: RunnerInfo) -> None:
        with self._lock:
            self._supervision.came_up(replica, info, self.clock.now())
            self._monitor.wake_all()

    def replica_changed(self, replica: int, info: RunnerInfo) -> None:
        with self._lock:
            self._supervision.changed(replica, info)

    def replica_down(self, replica: int, reason: str) -> None:
        """Its worker is lost: no batches until replica_up, which is expected soon."""
        with self._lock:
            if self._supervision.went_down(replica, reason):
                self._monitor.wake_all()

    def replica_waits(self, replica: int, delay: float, reason: str, is_broken: bool) -> None:
        """It will be started again in `delay` seconds. `is_broken`: that has failed several times;
        if no other replica may recover, requests get NotReady, those that wait too."""
        with self._monitor as outcomes:
            now = self.clock.now()
            self._supervision.waits(replica, now + delay, reason, is_broken)
            if not self._supervision.may_recover:
                self._settlement.fail_waiting(self._supervision.not_ready(now), outcomes)
            self._monitor.wake_all()

    @property
    def finished(self) -> bool:
        """No batch will ever come again."""
        with self._lock:
            return self._is_finished()

    def drain(self, until: float) -> bool:
        """Refuses new work; waits until all accepted requests have their outcome: by `until`?"""
        with self._lock:
            if self._monitor.phase == "open":
                self._monitor.phase = "draining"
                self._monitor.wake_all()
            while not self._is_finished() and self.clock.now() < until:
                self._monitor.wait_until_finished(until)
            return not (self._schedule.pending.rows or self._ledger.running)

    def close(self, why: BatcherError) -> None:
        """What waits gets `why`; next_batch returns None. The batching threads end what runs."""
        with self._monitor as outcomes:
            self._monitor.phase = "closed"
            self._settlement.shut_down(why, outcomes)
            self._monitor.wake_all()

    def set_canary_interval(self, seconds: float) -> None:
        """A canary is the first run of each worker, and is due after so long without a good run."""
        with self._lock:
            self._supervision.set_canary_interval(seconds)
            self._monitor.wake_all()

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = self.clock.now()
            replicas = tuple(each.snapshot(now) for each in self._supervision.replicas)
            return self._ledger.snapshot(self._monitor.phase, self._schedule, replicas, now)

    def recent_batches(self) -> list[BatchReport]:
        """The last few thousand, newest last."""
        with self._lock:
            return self._ledger.recent()

    def __repr__(self) -> str:
        return f"<Collector {self._monitor.phase}, {self._schedule!r}>"

    # Under the lock

    def _wait_for_batch(self, replica: int, outcomes: Outbox) -> Batch | None:
        while True:
            is_over = self._monitor.phase != "open" and self._is_finished()
            if is_over or not self._schedule.replicas[replica].is_up:
                self._wake_one()  # its wake-up may have come when this one was down already
                return None
            now, draining = self.clock.now(), self._monitor.phase == "draining"
            canary_due = self._supervision.canary_due(replica)
            if canary_due <= now:
                self._wake_one()  # another replica may be free for what waits
                return self._settlement.begin_canary(replica, now)
            due = self._schedule.due(replica, now, draining)
            if due <= now:
                batch = self._settlement.cut(replica, now, draining, outcomes, False)
                if self._schedule.pending.rows:  # for the next free replica
                    self._wake_one()
                return batch
            self._monitor.wait_for_work(replica, min(due, canary_due))

    def _wake_one(self) -> None:
        """If there is work: the replica that does it first. It wakes the next, if it leaves any."""
        free, replicas = self._monitor.free, self._schedule.replicas
        if free and self._schedule.pending.rows:
            first = 0 if len(replicas) == 1 else dispatch.soonest(free, replicas)
            self._monitor.wakeups[first].notify()

    def _is_finished(self) -> bool:
        phase, has_work = self._monitor.phase, self._schedule.pending.rows or self._ledger.running
        return phase == "closed" or (phase == "draining" and not has_work)
