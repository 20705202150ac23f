"""The schedule with a lock: submit, next_batch, and settling what comes back.

Owns the only lock of the engine. What it guards: `schedule` says who may come in and what goes in a
batch, `sharing` who needs no row, `ledger` makes and counts each change of a request's state,
`replicas` says who is up, `suspicion` whom to blame for a loss. Delivers outcomes outside the lock.
Decides nothing, never runs a model, never touches an event loop.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from batcher.clock import Clock
from batcher.errors import (
    BatcherError,
    DeadlineExceeded,
    Draining,
    PoisonRequest,
    Refused,
)
from batcher.ledger import Ledger
from batcher.limits import Limits
from batcher.request import Answer, Batch, BatchReport, Outcome, Request, Sink, State
from batcher.runner import RunnerInfo, as_outcome
from batcher.scheduling.arrays import is_array
from batcher.scheduling.schedule import Schedule
from batcher.scheduling.sharing import Sharing, Sorted, join
from batcher.snapshot import Snapshot
from batcher.supervision import recovery
from batcher.supervision.health import Replicas
from batcher.supervision.replica import Replica
from batcher.supervision.suspicion import Suspicion

_log = logging.getLogger(__name__)
_ANOTHER_SERVES = 1.0  # seconds after which to come back to a service that ends

_FROM_CACHE = BatchReport(-1, 0, 0, 0, 0, "cache", 0.0, 0.0, 0.0, 0.0)

Settled = dict[Sink, list[tuple[Request, Outcome]]]


class Collector:
    def __init__(self, limits: Limits, clock: Clock, replicas: int = 1) -> None:
        self.limits = limits
        self.clock = clock
        self._lock = threading.Lock()
        # For the thread of each replica: there is work for it, or it or the phase has changed.
        self._calls = [threading.Condition(self._lock) for _ in range(replicas)]
        self._free = set[int]()  # the replicas whose threads wait for a call
        self._settled_all = threading.Condition(self._lock)  # nothing waits, nothing runs
        self._schedule = Schedule(limits, replicas)
        self._pending = self._schedule.pending  # every request in here is WAITING
        self._sharing = Sharing(limits.share_equal, limits.cache_bytes)
        self._replicas = Replicas(self._schedule.devices)
        self._suspicion = Suspicion()
        self._ledger = Ledger(self._schedule)
        self._phase = "open"  # then draining, then closed

    # What the caller's side does

    def submit(self, requests: Sequence[Request]) -> None:
        """Returns at once: all are queued, or nothing changed and Refused or PoisonRequest is
        raised."""
        prints = self._suspicion.prints(requests)
        settled: Settled | None = None
        with self._lock:
            now = self.clock.now()
            refused = self._refusal(prints, now)
            found = self._sharing.sort(requests)
            if refused is None and found.alone:
                refused = self._schedule.refusal(found.alone, now)
            if refused is not None:
                self._ledger.refused(refused, len(requests))
                try:
                    raise refused
                finally:
                    del refused  # it will know this frame: a ring
            self._ledger.accepted(len(requests))
            if found.known or found.joining:
                settled = defaultdict(list)
                self._share(found, now, settled)
            if found.alone:
                self._schedule.add(found.alone, now)
                self._call_one()
        if settled is not None:
            _deliver(settled)

    def withdraw(self, requests: Sequence[Request], why: BatcherError) -> None:
        """The caller gives up: what waits never runs, what runs loses its result."""
        settled: Settled = defaultdict(list)
        with self._lock:
            for request in requests:
                if request.state is State.WAITING:
                    self._pending.remove(request)
                if request.state is not State.DONE:
                    self._finish(request, why, settled)
        _deliver(settled)

    # What a batching thread does

    def next_batch(self, replica: int) -> Batch | None:
        """Blocks until a batch is due and takes it. None: this replica is down, or all is done.

        A batch without requests asks for a canary.
        """
        while True:
            settled: Settled = defaultdict(list)
            with self._lock:
                batch = self._wait_for_batch(self._replicas[replica], settled)
            _deliver(settled)
            if batch is not None or not settled:
                return batch

    def next_ahead(self, running: Batch) -> Batch | float | None:
        """Cuts the batch that is to follow `running`, as late as will do, so that the replica need
        not wait for it. A float: it is too early, ask again then. None: not before that one has
        ended. Returns at once."""
        replica = self._replicas[running.replica]
        if self._schedule.is_soon_over(replica.index, running.predicted):
            return None  # most short batches have none, and the lock is others' time
        settled: Settled = defaultdict(list)
        with self._lock:
            # After a loss each is watched alone: whatever happens next must have one cause.
            if not replica.up or self._phase == "closed" or running.requests[0].losses:
                return None
            now = self.clock.now()
            if self._canary_due(replica) <= now:
                return None  # a stream of batches that all fail must not put it off
            due = self._schedule.ahead_at(replica.index, now, self._phase == "draining")
            if due > now:
                return due if due < math.inf else None
            batch = self._cut(replica, now, self._phase == "draining", settled)
            if batch is not None:
                batch.is_ahead = True
        _deliver(settled)
        return batch

    def replica_up(self, replica: int, info: RunnerInfo) -> None:
        with self._lock:
            self._replicas.came_up(replica, info, self.clock.now())
            self._call_all()

    def replica_changed(self, replica: int, info: RunnerInfo) -> None:
        """It is up, and what its runner reports has changed."""
        with self._lock:
            self._replicas.changed(replica, info)

    def replica_down(self, replica: int, reason: str) -> None:
        """A worker is gone: its thread stops taking batches until replica_up. Says why, once.

        Those who wait go on waiting: the next worker is expected soon.
        """
        with self._lock:
            if self._replicas.went_down(replica, reason):
                self._call_all()

    def replica_waits(self, replica: int, delay: float, reason: str, is_broken: bool) -> None:
        """It will be started again in `delay` seconds.

        `is_broken`: that has been in vain for some time. If no other replica is to be hoped for,
        those who wait get NotReady, and so does whoever comes.
        """
        settled: Settled = defaultdict(list)
        with self._lock:
            now = self.clock.now()
            self._replicas.waits(replica, now + delay, reason, is_broken)
            if not self._replicas.is_hopeful:
                why = self._replicas.not_ready(now)
                for request in self._pending.clear():
                    self._finish(request, copy.copy(why), settled)
            self._call_all()
        _deliver(settled)

    # What the engine does

    @property
    def finished(self) -> bool:
        """No batch will ever come again."""
        with self._lock:
            return self._is_finished()

    def drain(self, until: float) -> bool:
        """Refuses new work; waits until every accepted request has its outcome, or `until`.

        Returns whether all had it.
        """
        with self._lock:
            if self._phase == "open":
                self._phase = "draining"
                self._call_all()
            while not self._is_finished() and self.clock.now() < until:
                self.clock.wait(self._settled_all, until)
            return self._ledger.is_settled

    def close(self, why: BatcherError) -> None:
        """Ends everything now: what waits gets `why`, and batching threads see None.

        What runs is settled by its batching thread, whose host the engine stops.
        """
        settled: Settled = defaultdict(list)
        with self._lock:
            self._phase = "closed"
            for request in self._pending.clear():
                self._finish(request, why, settled)
            self._call_all()
            self._settled_all.notify_all()
        _deliver(settled)

    def try_every(self, seconds: float) -> None:
        """From now on next_batch asks for a canary of each replica that has run nothing well for so
        long, and as the first run of each worker."""
        with self._lock:
            for replica in self._replicas:
                replica.canary_interval = seconds
            self._call_all()

    def snapshot(self) -> Snapshot:
        with self._lock:
            now = self.clock.now()
            return self._ledger.snapshot(self._phase, now, self._replicas.snapshot(now))

    def recent_batches(self) -> list[BatchReport]:
        """The last few thousand, newest last."""
        with self._lock:
            return self._ledger.recent()

    def __repr__(self) -> str:
        busy = sum(device.batches > 0 for device in self._schedule.devices)
        return f"<Collector {self._phase}, {len(self._pending)} waiting, {busy} replicas busy>"

    # Under the lock

    def _call_one(self) -> None:
        """There is work: for the one that would do it first. It calls another, if it leaves any."""
        if self._free:
            first = self._schedule.soonest(self._free) if len(self._free) > 1 else min(self._free)
            self._calls[first].notify()

    def _call_all(self) -> None:
        for call in self._calls:
            call.notify_all()

    def _refusal(self, prints: Sequence[str | None], now: float) -> Refused | PoisonRequest | None:
        """Whatever is asked for."""
        if self._phase != "open":
            return Draining("the service is shutting down", _ANOTHER_SERVES)
        if not self._replicas.is_hopeful:
            return self._replicas.not_ready(now)
        return self._suspicion.refusal(prints, now) if prints else None

    def _share(self, found: Sorted, now: float, settled: Settled) -> None:
        self._ledger.cached(len(found.known))
        for request, value in found.known:
            self._finish(request, Answer(value, 0.0, _FROM_CACHE), settled)
        for request, batch, row in found.joining:
            join(request, batch, row)
        self._ledger.joined(len(found.joining))
        self._schedule.joined(len(found.joining), now)
        if self._pending:
            self._call_one()  # a replica that waits for company may have it now

    def _wait_for_batch(self, replica: Replica, settled: Settled) -> Batch | None:
        """None with something settled: the queue held nothing but expired requests."""
        while True:
            if not replica.up or self._is_finished():
                if self._pending:
                    self._call_one()  # the call may have come when this one was down already
                return None
            now = self.clock.now()
            canary_due = self._canary_due(replica)
            if canary_due <= now:
                replica.is_tried(now)
                if self._pending:
                    self._call_one()  # another one may be free for it
                return self._part([], replica, "canary", now, {})
            draining = self._phase == "draining"
            due = self._schedule.due(replica.index, now, draining) if self._pending else math.inf
            if due <= now:
                return self._cut(replica, now, draining, settled)
            until = min(due, canary_due)
            self._free.add(replica.index)
            try:
                self.clock.wait(self._calls[replica.index], until if until < math.inf else None)
            finally:
                self._free.discard(replica.index)

    def _canary_due(self, replica: Replica) -> float:
        """inf: it needs none."""
        is_slow = len(self._calls) > 1 and self._schedule.is_slow(replica.index)
        due = replica.slow_canary_due if is_slow else replica.canary_due
        return math.inf if due is None else due

    def _cut(self, replica: Replica, now: float, draining: bool, settled: Settled) -> Batch | None:
        fill = self._schedule.cut(replica.index, now, draining)
        for request in fill.late:
            self._finish(request, _late(request, now), settled)
        if not fill.taken:
            return None
        batch = self._batch(fill.taken, replica, fill.reason, now, fill.predicted, fill.twins)
        self._ledger.began(batch, now)
        if self._pending:
            self._call_one()  # what is left over is for the next free replica
        return batch

    def _part(
        self,
        requests: Sequence[Request],
        replica: Replica,
        reason: str,
        now: float,
        twins: dict[int, list[Request]],
    ) -> Batch:
        """A batch that was not cut from the queue."""
        batch = self._batch(requests, replica, reason, now, 0.0, twins)
        batch.predicted = self._schedule.began(replica.index, now, batch.size, batch.tokens)
        return batch

    def _batch(
        self,
        requests: Sequence[Request],
        replica: Replica,
        reason: str,
        now: float,
        predicted: float,
        twins: dict[int, list[Request]],
    ) -> Batch:
        free = replica.device.padding_free
        batch = Batch(
            requests, twins, replica.index, reason, now, predicted, self, padding_free=free
        )
        batch.patience = recovery.patience(
            replica.device.cost, batch.size, batch.tokens, self.limits.hang_after
        )
        if batch.size > 1:
            batch.patience *= self._suspicion.leniency
        self._sharing.runs(batch)
        return batch

    def _finish(self, request: Request, outcome: Outcome, settled: Settled) -> None:
        self._ledger.finished(request, outcome)
        settled[request.sink].append((request, outcome))
        if self._phase != "open" and self._is_finished():
            self._settled_all.notify_all()
            self._call_all()

    def _is_finished(self) -> bool:
        if self._phase == "open":
            return False
        return self._phase == "closed" or self._ledger.is_settled

    # What a batch ends with: see Batch

    def settle(self, batch: Batch, results: Sequence[Any], inference: float) -> None:
        # The model's own objects are looked at here, where whatever they raise holds nobody up.
        if is_array(results) and results.dtype.kind != "O":
            results = list(results)  # each look into an array makes its row anew
            errors: list[BatcherError | None] = [None] * len(results)
        else:
            errors = [as_outcome(result) for result in results]
        settled: Settled = defaultdict(list)
        with self._lock:
            now = self.clock.now()
            report = batch.report(inference)
            answered = 0
            for row, (result, error) in enumerate(zip(results, errors, strict=True)):
                for request in batch.row(row) if batch.twins else (batch.requests[row],):
                    if request.state is State.RUNNING:  # else its caller has gone
                        wait = max(0.0, batch.closed - request.arrival)
                        # Each an error of its own: whoever raises it changes it.
                        outcome = copy.copy(error) if error else Answer(result, wait, report)
                        self._finish(request, outcome, settled)
                        answered += 1
                if error is None:
                    self._sharing.keep(batch.requests[row], result)
            self._ended(batch, now, report, answered)
            if inference > 0.0:
                self._went_well(batch, errors)
        _deliver(settled)

    def halve(self, batch: Batch, out_of_memory: bool) -> Sequence[Batch]:
        settled: Settled = defaultdict(list)
        with self._lock:
            now, replica = self.clock.now(), self._replicas[batch.replica]
            self._ended(batch, now, batch.report(0.0), 0)
            if out_of_memory:
                replica.device.ceiling.failed(batch.size, batch.tokens, now)
            rows = self._still_wanted(batch, now, settled)
            middle = (len(rows) + 1) // 2
            halves = [
                self._part(
                    [row[0] for row in half],
                    replica,
                    "split",
                    now,
                    {place: row[1:] for place, row in enumerate(half) if len(row) > 1},
                )
                for half in (rows[:middle], rows[middle:])
                if half
            ]
        _deliver(settled)
        return halves

    def requeue(self, batch: Batch, lost: bool) -> int:
        settled: Settled = defaultdict(list)
        poison = 0
        with self._lock:
            now, replica = self.clock.now(), self._replicas[batch.replica]
            self._ended(batch, now, batch.report(0.0), 0)
            if lost:
                self._suspicion.lost(replica, batch.size)
            back: list[Request] = []
            for row in self._still_wanted(batch, now, settled):
                losses = max(request.losses for request in row) + lost
                for request in row:  # some may have joined since the last loss
                    request.losses = min(losses, recovery.ALONE)
                if self._suspicion.condemns(replica, losses):
                    poison += self._condemn(row, replica, now, settled)
                else:
                    back += row
            self._ledger.put_back(back)
            self._pending.put_back(back)
            self._call_all()
        _deliver(settled)
        return poison

    def _ended(self, batch: Batch, now: float, report: BatchReport, answered: int) -> None:
        self._sharing.ended(batch)
        self._schedule.ended(
            batch.replica,
            now,
            # A part has waited for the parts before it, and this for the batch before it.
            began=None if batch.reason == "split" or batch.is_ahead else batch.closed,
            size=batch.size,
            tokens=batch.tokens,
            useful_tokens=batch.useful_tokens,
            seconds=report.inference,
            released=answered,
        )
        if batch.requests:  # a canary is nobody's business but ours
            self._ledger.ended(report)

    def _still_wanted(self, batch: Batch, now: float, settled: Settled) -> list[list[Request]]:
        """By row, those that somebody waits for, and that can still be in time; the late ones are
        told."""
        rows = []
        for place in range(batch.size):
            wanted = []
            for request in batch.row(place):
                if request.state is not State.RUNNING:
                    continue
                if request.deadline <= now:
                    late = DeadlineExceeded("the deadline passed while the request ran again")
                    self._finish(request, late, settled)
                elif self._phase == "closed":
                    self._finish(
                        request, Draining("the service has shut down", _ANOTHER_SERVES), settled
                    )
                else:
                    wanted.append(request)
            if wanted:
                rows.append(wanted)
        return rows

    def _condemn(
        self, row: Sequence[Request], replica: Replica, now: float, settled: Settled
    ) -> int:
        """With all that wait and are like it. Returns how many."""
        alike = self._suspicion.condemn(row, replica, self._pending, now)
        for each in alike:
            self._pending.remove(each)
        for each in (*row, *alike):
            why = PoisonRequest("this input has killed several workers, the last one alone")
            self._finish(each, why, settled)
        self._ledger.condemned(len(row) + len(alike))
        return len(row) + len(alike)

    def _went_well(self, batch: Batch, errors: Sequence[BatcherError | None]) -> None:
        replica = self._replicas[batch.replica]
        if not batch.requests or None in errors:
            replica.went_well(self.clock.now())
        if None in errors:
            self._suspicion.went_well(replica, batch.size)


def _late(request: Request, now: float) -> DeadlineExceeded:
    if request.deadline <= now:
        return DeadlineExceeded("the deadline passed in the queue")
    return DeadlineExceeded("the answer would have come after the deadline: it was not run")


def _deliver(settled: Settled) -> None:
    for sink, outcomes in settled.items():
        try:
            sink.deliver(outcomes)
        except Exception:  # it broke its contract; the other callers must not pay for that
            _log.exception("a sink failed; %d outcomes are lost", len(outcomes))
