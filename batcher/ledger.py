"""Ledger: counts every accepted request once, as waiting, running or by its outcome, and makes each
change of its state. Guarded by the collector's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from batcher.errors import BatcherError, Cancelled, DeadlineExceeded
from batcher.request import Answer, Batch, BatchReport, Outcome, Request, State
from batcher.scheduling.schedule import Schedule
from batcher.snapshot import RECENT, EngineCounters, ReplicaSnapshot, Snapshot


class Ledger:
    def __init__(self) -> None:
        self._counters = EngineCounters()
        self._recent: deque[BatchReport] = deque(maxlen=RECENT)
        self.running = 0  # requests that are RUNNING

    def refused(self, error: BatcherError, count: int) -> None:
        self._counters.refused[type(error).__name__] += count

    def accepted(self, count: int) -> None:
        self._counters.accepted += count

    def cached(self, count: int) -> None:
        self._counters.cached += count

    def coalesced(self, request: Request) -> None:
        """It has joined a row in flight."""
        request.state = State.RUNNING
        self.running += 1
        self._counters.shared += 1
        self._counters.queue_wait.observe(0.0)

    def began(self, batch: Batch, now: float) -> None:
        """All of a batch that was cut from the queue. O(batch)."""
        observe = self._counters.queue_wait.observe
        for place in range(batch.size):
            for request in batch.row(place) if batch.duplicates else (batch.requests[place],):
                request.state = State.RUNNING
                self.running += 1
                observe(now - request.arrival)
        self._counters.shared += sum(map(len, batch.duplicates.values()))

    def put_back(self, requests: Sequence[Request]) -> None:
        """From a batch to the queue."""
        for request in requests:
            request.state = State.WAITING
        self.running -= len(requests)
        self._counters.retried += len(requests)

    def finished(self, request: Request, outcome: Outcome) -> None:
        """The one step to DONE. A request that was WAITING is off the queue already."""
        if request.state is State.RUNNING:
            self.running -= 1
        request.state = State.DONE
        if isinstance(outcome, Answer):
            self._counters.ok += 1
        elif isinstance(outcome, DeadlineExceeded):
            self._counters.expired += 1
        elif isinstance(outcome, Cancelled):
            self._counters.cancelled += 1
        else:
            self._counters.failed += 1

    def poisoned(self, count: int) -> None:
        self._counters.poison += count

    def ended(self, report: BatchReport) -> None:
        self._recent.append(report)
        self._counters.observe(report)

    def recent(self) -> list[BatchReport]:
        """The last batches, newest last."""
        return list(self._recent)

    def snapshot(
        self, phase: str, schedule: Schedule, replicas: tuple[ReplicaSnapshot, ...], now: float
    ) -> Snapshot:
        pending = schedule.pending
        return Snapshot(
            phase=phase,
            waiting=len(pending),
            waiting_bulk=pending.bulk,
            waiting_tokens=pending.tokens,
            running=self.running,
            oldest_age=now - pending.oldest.arrival if pending else 0.0,
            predicted_batch=schedule.next_batch_seconds(),
            handoff=schedule.handoff,
            replicas=replicas,
            **self._counters.frozen(),
        )

    def __repr__(self) -> str:
        return f"<Ledger {self.running} running>"
