"""The queue with a lock: submit, next_batch, and settling what comes back.

Owns the only lock of the engine and every change of a request's state. Delivers outcomes outside
the lock. Never runs a model, never touches an event loop.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from batcher import admission, policy, recovery
from batcher.clock import Clock
from batcher.cost import CostModel
from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    PoisonRequest,
    Refused,
)
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.quarantine import Quarantine, fingerprint
from batcher.replica import Replica
from batcher.request import Answer, Batch, BatchReport, Outcome, Request, Sink, State
from batcher.runner import as_outcome
from batcher.stats import Snapshot, Tally

_log = logging.getLogger(__name__)
_MAX_LENIENCY = 64.0
_MOST_CONDEMNED = 2  # in a row, with nothing between that went well
_NOT_READY_RETRY = 1.0  # seconds; nobody knows how long a model takes to load

Settled = dict[Sink, list[tuple[Request, Outcome]]]


class Collector:
    def __init__(self, limits: Limits, clock: Clock, replicas: int = 1) -> None:
        self.limits = limits
        self.clock = clock
        self.cost = CostModel()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # work, a replica or the phase
        self._settled_all = threading.Condition(self._lock)  # nothing waits, nothing runs
        # Oldest first; every request in here is WAITING.
        self._pending = Pending()
        self._running = 0  # requests that are RUNNING
        self._replicas = [Replica(index) for index in range(replicas)]
        # Asked for with every request:
        self._up = 0  # replicas that are up
        self._is_hopeful = False  # there is one that is up or soon will be
        self._quarantine = Quarantine()
        self._leniency = 1.0  # times the patience: batches have hung, and nobody knows why
        self._phase = "open"  # then draining, then closed
        self._tally = Tally()

    # What the caller's side does

    def submit(self, requests: Sequence[Request]) -> None:
        """Returns at once: all are queued, or nothing changed and Refused or PoisonRequest is
        raised."""
        # Hardly ever is anything in quarantine, and only then do requests pay for it.
        prints = [fingerprint(r.payload) for r in requests] if self._quarantine else []
        with self._lock:
            refused = self._refusal(requests, prints)
            if refused is not None:
                self._tally.refused[type(refused).__name__] += len(requests)
                raise refused
            for request in requests:
                self._pending.add(request)
            self._tally.accepted += len(requests)
            self._changed.notify()

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

    def replica_up(self, replica: int, facts: Mapping[str, object]) -> None:
        with self._lock:
            self._replicas[replica].came_up(facts, self.clock.now())
            self._count_replicas()
            self._changed.notify_all()

    def replica_down(self, replica: int, reason: str) -> None:
        """A worker is gone: its thread stops taking batches until replica_up. Says why, once.

        Those who wait go on waiting: the next worker is expected soon.
        """
        with self._lock:
            if self._replicas[replica].up:
                self._replicas[replica].went_down(reason)
                self._count_replicas()
                self._changed.notify_all()

    def replica_waits(self, replica: int, delay: float, reason: str, is_broken: bool) -> None:
        """It will be started again in `delay` seconds.

        `is_broken`: that has been in vain for some time. If no other replica is to be hoped for,
        those who wait get NotReady, and so does whoever comes.
        """
        settled: Settled = defaultdict(list)
        with self._lock:
            self._replicas[replica].waits(self.clock.now() + delay, reason, is_broken)
            self._count_replicas()
            if not self._is_hopeful:
                why = self._not_ready()
                for request in self._pending.clear():
                    self._finish(request, copy.copy(why), settled)
            self._changed.notify_all()
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
                self._changed.notify_all()
            while not self._is_finished() and self.clock.now() < until:
                self.clock.wait(self._settled_all, until)
            return not (self._pending or self._running)

    def close(self, why: BatcherError) -> None:
        """Ends everything now: what waits gets `why`, and batching threads see None.

        What runs is settled by its batching thread, whose host the engine stops.
        """
        settled: Settled = defaultdict(list)
        with self._lock:
            self._phase = "closed"
            for request in self._pending.clear():
                self._finish(request, why, settled)
            self._changed.notify_all()
            self._settled_all.notify_all()
        _deliver(settled)

    def try_every(self, seconds: float) -> None:
        """From now on next_batch asks for a canary of each replica that has run nothing well for so
        long, and as the first run of each worker."""
        with self._lock:
            for replica in self._replicas:
                replica.canary_interval = seconds
            self._changed.notify_all()

    def snapshot(self) -> Snapshot:
        with self._lock:
            tally, pending = self._tally, self._pending
            cut = policy.fill(pending, self.limits, float("-inf"), draining=False)
            now = self.clock.now()
            return Snapshot(
                phase=self._phase,
                accepted=tally.accepted,
                ok=tally.outcomes["ok"],
                failed=tally.outcomes["failed"],
                expired=tally.outcomes["expired"],
                cancelled=tally.outcomes["cancelled"],
                refused=dict(tally.refused),
                retried=tally.retried,
                poison=tally.poison,
                waiting=len(pending),
                waiting_tokens=pending.tokens,
                running=self._running,
                oldest_age=now - pending.oldest.arrival if pending else 0.0,
                predicted_batch=self.cost.predict(max(1, len(cut.taken)), max(1, cut.tokens)),
                batches=dict(tally.batches),
                queue_wait=tally.queue_wait.snapshot(),
                inference=tally.inference.snapshot(),
                batch_size=tally.batch_size.snapshot(),
                batch_tokens=tally.batch_tokens.snapshot(),
                batch_padding=tally.batch_padding.snapshot(),
                replicas=tuple(replica.snapshot(now) for replica in self._replicas),
            )

    def __repr__(self) -> str:
        busy = sum(replica.batches > 0 for replica in self._replicas)
        return f"<Collector {self._phase}, {len(self._pending)} waiting, {busy} replicas busy>"

    # Under the lock

    def _count_replicas(self) -> None:
        self._up = sum(replica.up for replica in self._replicas)
        self._is_hopeful = any(replica.is_hopeful for replica in self._replicas)

    def _refusal(
        self, requests: Sequence[Request], prints: Sequence[str | None]
    ) -> Refused | PoisonRequest | None:
        if self._phase != "open":
            return Draining("the service is shutting down", _NOT_READY_RETRY)
        if not self._is_hopeful:
            return self._not_ready()
        if prints:
            now = self.clock.now()
            self._quarantine.let_go(now)
            if any(self._quarantine.holds(each, now) for each in prints):
                return PoisonRequest("this input has killed several workers: it is refused")
        caller = requests[0].caller if requests else None
        return admission.refusal(
            self._pending, len(requests), self.limits, self.cost, max(1, self._up), caller
        )

    def _not_ready(self) -> NotReady:
        waits = [replica.retry_in(self.clock.now()) for replica in self._replicas]
        reason = next((replica.reason for replica in self._replicas if replica.reason), "")
        why = f"no worker is ready; the last one: {reason}" if reason else "no worker is ready"
        return NotReady(why, min((wait for wait in waits if wait), default=_NOT_READY_RETRY))

    def _wait_for_batch(self, replica: Replica, settled: Settled) -> Batch | None:
        """None with something settled: the queue held nothing but expired requests."""
        while True:
            if not replica.up or self._is_finished():
                return None
            now = self.clock.now()
            canary_due = replica.canary_due
            if canary_due is not None and canary_due <= now:
                replica.is_tried(now)
                if self._pending:
                    self._changed.notify()  # another one may be free for it
                return self._batch([], replica, "canary", now, 0)
            draining = self._phase == "draining"
            due = (
                policy.due(self._pending, self.limits, draining, replica.ceiling)
                if self._pending
                else None
            )
            if due is not None and due <= now:
                return self._cut(replica, now, draining, settled)
            until = min((time for time in (due, canary_due) if time is not None), default=None)
            self.clock.wait(self._changed, until)

    def _cut(self, replica: Replica, now: float, draining: bool, settled: Settled) -> Batch | None:
        replica.ceiling.relax(now)
        fill = policy.fill(self._pending, self.limits, now, draining, replica.ceiling)
        for request in fill.expired:
            self._pending.remove(request)
            self._finish(request, DeadlineExceeded("the deadline passed in the queue"), settled)
        if not fill.taken:
            return None
        for request in fill.taken:
            self._pending.remove(request)
            request.state = State.RUNNING
            self._tally.queue_wait.observe(now - request.arrival)
        self._running += len(fill.taken)
        if self._pending:
            self._changed.notify()  # what is left over is for the next free replica
        return self._batch(fill.taken, replica, fill.reason, now, fill.tokens)

    def _batch(
        self, requests: Sequence[Request], replica: Replica, reason: str, now: float, tokens: int
    ) -> Batch:
        size = len(requests)
        replica.batches += 1
        predicted = self.cost.predict(size, tokens)
        patience = recovery.patience(self.cost, size, tokens, self.limits.hang_after)
        if size > 1:
            patience *= self._leniency
        return Batch(requests, replica.index, reason, now, predicted, patience, self)

    def _finish(self, request: Request, outcome: Outcome, settled: Settled) -> None:
        """The one step to DONE; whoever holds a WAITING request has taken it off the queue."""
        if request.state is State.RUNNING:
            self._running -= 1
        request.state = State.DONE
        self._tally.outcomes[_kind(outcome)] += 1
        settled[request.sink].append((request, outcome))
        if self._is_finished():
            self._settled_all.notify_all()
            self._changed.notify_all()

    def _is_finished(self) -> bool:
        if self._phase == "open":
            return False
        return self._phase == "closed" or not (self._pending or self._running)

    # What a batch ends with: see Batch

    def settle(self, batch: Batch, results: Sequence[Any], inference: float) -> None:
        report = _report(batch, inference)
        # The model's own objects are looked at here, where whatever they raise holds nobody up.
        errors = [as_outcome(result) for result in results]
        settled: Settled = defaultdict(list)
        with self._lock:
            self._ended(batch, report)
            if inference > 0.0:
                self.cost.observe(max(1, batch.size), max(1, batch.tokens), inference)
                self._went_well(batch, errors)
            for request, result, error in zip(batch.requests, results, errors, strict=True):
                if request.state is State.RUNNING:  # else its caller has gone
                    wait = batch.closed - request.arrival
                    self._finish(request, error or Answer(result, wait, report), settled)
        _deliver(settled)

    def halve(self, batch: Batch, out_of_memory: bool) -> Sequence[Batch]:
        settled: Settled = defaultdict(list)
        with self._lock:
            now, replica = self.clock.now(), self._replicas[batch.replica]
            self._ended(batch, _report(batch, 0.0))
            if out_of_memory:
                replica.ceiling.failed(batch.size, batch.tokens, now)
            live = self._still_wanted(batch, now, settled)
            middle = (len(live) + 1) // 2
            halves = [
                self._batch(half, replica, "split", now, len(half) * max(r.cost for r in half))
                for half in (live[:middle], live[middle:])
                if half
            ]
        _deliver(settled)
        return halves

    def requeue(self, batch: Batch, lost: bool) -> int:
        settled: Settled = defaultdict(list)
        poison = 0
        with self._lock:
            now, replica = self.clock.now(), self._replicas[batch.replica]
            self._ended(batch, _report(batch, 0.0))
            if lost and replica.reason == "hang" and batch.size > 1:
                # Perhaps it is only slow: the next one is given more time, to be told apart.
                self._leniency = min(2 * self._leniency, _MAX_LENIENCY)
            back = []
            for request in self._still_wanted(batch, now, settled):
                losses = request.losses + lost
                # Several in a row and nothing that went well: that is the replica, not the inputs.
                if recovery.is_poison(losses) and replica.condemned < _MOST_CONDEMNED:
                    request.losses = losses
                    replica.condemned += 1
                    poison += self._condemn(request, now, settled)
                    self._leniency = 1.0
                else:
                    request.losses = min(losses, recovery.ALONE)
                    request.state = State.WAITING
                    back.append(request)
            self._running -= len(back)
            self._pending.put_back(back)
            self._tally.retried += len(back)
            self._changed.notify_all()
        _deliver(settled)
        return poison

    def _ended(self, batch: Batch, report: BatchReport) -> None:
        self._replicas[batch.replica].batches -= 1
        if batch.requests:  # a canary is nobody's business but ours
            self._tally.observe(report)

    def _still_wanted(self, batch: Batch, now: float, settled: Settled) -> list[Request]:
        """Those that somebody waits for, and that can still be in time; the late ones are told."""
        wanted = []
        for request in batch.requests:
            if request.state is not State.RUNNING:
                continue
            if request.deadline <= now:
                late = DeadlineExceeded("the deadline passed while the request ran again")
                self._finish(request, late, settled)
            elif self._phase == "closed":
                self._finish(request, Draining("the service has shut down", 1.0), settled)
            else:
                wanted.append(request)
        return wanted

    def _condemn(self, request: Request, now: float, settled: Settled) -> int:
        """With all that wait and are like it. O(queue), once per poison. Returns how many."""
        print_ = fingerprint(request.payload)
        assert print_ is not None, "it has been in a worker: this is a bug"
        self._quarantine.add(print_, now)
        _log.error(
            "an input was aboard when %d workers were lost, the last time alone; inputs with its"
            " fingerprint, %s, are refused for a while",
            request.losses,
            print_,
        )
        alike = [each for each in self._pending if fingerprint(each.payload) == print_]
        for each in alike:
            self._pending.remove(each)
        for each in (request, *alike):
            why = PoisonRequest("this input has killed several workers, the last one alone")
            self._finish(each, why, settled)
        self._tally.poison += 1 + len(alike)
        return 1 + len(alike)

    def _went_well(self, batch: Batch, errors: Sequence[BatcherError | None]) -> None:
        replica = self._replicas[batch.replica]
        if not batch.requests or None in errors:
            replica.went_well(self.clock.now())
        if None in errors:
            replica.condemned = 0
            if batch.size > 1:
                self._leniency = 1.0


def _report(batch: Batch, inference: float) -> BatchReport:
    return BatchReport(
        replica=batch.replica,
        size=batch.size,
        tokens=batch.tokens,
        useful_tokens=batch.useful_tokens,
        reason=batch.reason,
        predicted=batch.predicted,
        inference=inference,
    )


def _deliver(settled: Settled) -> None:
    for sink, outcomes in settled.items():
        try:
            sink.deliver(outcomes)
        except Exception:  # it broke its contract; the other callers must not pay for that
            _log.exception("a sink failed; %d outcomes are lost", len(outcomes))


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Answer):
        return "ok"
    if isinstance(outcome, DeadlineExceeded):
        return "expired"
    return "cancelled" if isinstance(outcome, Cancelled) else "failed"
