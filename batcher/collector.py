"""The queue with a lock: submit, next_batch, and settling what comes back.

Owns the only lock of the engine and every change of a request's state. Delivers outcomes outside
the lock. Never runs a model, never touches an event loop.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from batcher import admission, policy
from batcher.clock import Clock
from batcher.cost import CostModel
from batcher.errors import BatcherError, Cancelled, DeadlineExceeded, Draining, NotReady, Refused
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.request import Answer, Batch, BatchReport, Outcome, Request, Sink, State
from batcher.runner import as_outcome
from batcher.stats import ReplicaSnapshot, Snapshot, Tally

_log = logging.getLogger(__name__)
_NOT_READY_RETRY = 1.0  # seconds; nobody knows how long a model takes to load

Settled = dict[Sink, list[tuple[Request, Outcome]]]


class _Replica:
    def __init__(self, index: int) -> None:
        self.index = index
        self.up = False
        self.busy = False
        self.facts: Mapping[str, object] = {}
        self.restarts: Counter[str] = Counter()

    def snapshot(self) -> ReplicaSnapshot:
        return ReplicaSnapshot(
            self.index, self.up, self.busy, dict(self.facts), dict(self.restarts)
        )


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
        self._replicas = [_Replica(index) for index in range(replicas)]
        self._up = 0  # replicas that are up: asked for with every request
        self._phase = "open"  # then draining, then closed
        self._tally = Tally()

    # What the caller's side does

    def submit(self, requests: Sequence[Request]) -> None:
        """Returns at once: all are queued, or Refused is raised and nothing changed."""
        with self._lock:
            refused = self._refusal(len(requests), requests[0].caller if requests else None)
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
        """Blocks until a batch is due and takes it. None: this replica is down, or all is done."""
        while True:
            settled: Settled = defaultdict(list)
            with self._lock:
                batch = self._wait_for_batch(self._replicas[replica], settled)
            _deliver(settled)
            if batch is not None or not settled:
                return batch

    def replica_up(self, replica: int, facts: Mapping[str, object]) -> None:
        with self._lock:
            self._replicas[replica].up = True
            self._up = self._count_up()
            self._replicas[replica].facts = facts
            self._changed.notify_all()

    def replica_down(self, replica: int, reason: str) -> None:
        """A worker is gone: its thread stops taking batches until replica_up. Says why, once."""
        with self._lock:
            if self._replicas[replica].up:
                self._replicas[replica].up = False
                self._up = self._count_up()
                self._replicas[replica].restarts[reason] += 1
                self._changed.notify_all()

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

    def snapshot(self) -> Snapshot:
        with self._lock:
            tally, pending = self._tally, self._pending
            cut = policy.fill(pending, self.limits, float("-inf"), draining=False)
            return Snapshot(
                phase=self._phase,
                accepted=tally.accepted,
                ok=tally.outcomes["ok"],
                failed=tally.outcomes["failed"],
                expired=tally.outcomes["expired"],
                cancelled=tally.outcomes["cancelled"],
                refused=dict(tally.refused),
                waiting=len(pending),
                waiting_tokens=pending.tokens,
                running=self._running,
                oldest_age=self.clock.now() - pending.oldest.arrival if pending else 0.0,
                predicted_batch=self.cost.predict(max(1, len(cut.taken)), max(1, cut.tokens)),
                batches=dict(tally.batches),
                queue_wait=tally.queue_wait.snapshot(),
                inference=tally.inference.snapshot(),
                batch_size=tally.batch_size.snapshot(),
                batch_tokens=tally.batch_tokens.snapshot(),
                batch_padding=tally.batch_padding.snapshot(),
                replicas=tuple(replica.snapshot() for replica in self._replicas),
            )

    def __repr__(self) -> str:
        busy = sum(replica.busy for replica in self._replicas)
        return f"<Collector {self._phase}, {len(self._pending)} waiting, {busy} replicas busy>"

    # Under the lock

    def _count_up(self) -> int:
        return sum(replica.up for replica in self._replicas)

    def _refusal(self, asked: int, caller: str | None) -> Refused | None:
        if self._phase != "open":
            return Draining("the service is shutting down", _NOT_READY_RETRY)
        if not self._up:
            return NotReady("no worker is ready", _NOT_READY_RETRY)
        return admission.refusal(self._pending, asked, self.limits, self.cost, self._up, caller)

    def _wait_for_batch(self, replica: _Replica, settled: Settled) -> Batch | None:
        """None with something settled: the queue held nothing but expired requests."""
        while True:
            if not replica.up or self._is_finished():
                return None
            draining = self._phase == "draining"
            until = policy.due(self._pending, self.limits, draining) if self._pending else None
            if until is not None and until <= (now := self.clock.now()):
                return self._cut(replica, now, draining, settled)
            self.clock.wait(self._changed, until)

    def _cut(self, replica: _Replica, now: float, draining: bool, settled: Settled) -> Batch | None:
        fill = policy.fill(self._pending, self.limits, now, draining)
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
        replica.busy = True
        if self._pending:
            self._changed.notify()  # what is left over is for the next free replica
        predicted = self.cost.predict(len(fill.taken), fill.tokens)
        return Batch(fill.taken, replica.index, fill.reason, now, predicted, self._settle)

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

    # Batch.settle ends here

    def _settle(self, batch: Batch, results: Sequence[Any], inference: float) -> None:
        report = BatchReport(
            replica=batch.replica,
            size=batch.size,
            tokens=batch.tokens,
            useful_tokens=batch.useful_tokens,
            reason=batch.reason,
            predicted=batch.predicted,
            inference=inference,
        )
        # The model's own objects are looked at here, where whatever they raise holds nobody up.
        errors = [as_outcome(result) for result in results]
        settled: Settled = defaultdict(list)
        with self._lock:
            self._replicas[batch.replica].busy = False
            self._tally.observe(report)
            if inference > 0.0:
                self.cost.observe(batch.size, batch.tokens, inference)
            for request, result, error in zip(batch.requests, results, errors, strict=True):
                if request.state is State.RUNNING:  # else its caller has gone
                    wait = batch.closed - request.arrival
                    self._finish(request, error or Answer(result, wait, report), settled)
        _deliver(settled)


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
