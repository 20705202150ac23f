"""Ledger: every accepted request is counted in it once, as waiting, running, or by its outcome, and
moves from one to the next here. Guarded by the collector's lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from batcher.errors import BatcherError, Cancelled, DeadlineExceeded
from batcher.request import Answer, Batch, BatchReport, Outcome, Request, State
from batcher.scheduling.pending import Pending
from batcher.scheduling.schedule import Schedule
from batcher.snapshot import ReplicaSnapshot, Snapshot, Tally


class Ledger:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._pending: Pending = schedule.pending
        self._tally = Tally()
        self.running = 0  # requests that are RUNNING

    @property
    def is_settled(self) -> bool:
        """Nothing waits, nothing runs."""
        return not (self._pending or self.running)

    def refused(self, error: BatcherError, count: int) -> None:
        self._tally.refused[type(error).__name__] += count

    def accepted(self, count: int) -> None:
        self._tally.accepted += count

    def cached(self, count: int) -> None:
        self._tally.cached += count

    def joined(self, count: int) -> None:
        """So many found a row that runs already."""
        self.running += count
        self._tally.shared += count
        for _ in range(count):
            self._tally.queue_wait.observe(0.0)

    def began(self, batch: Batch, now: float) -> None:
        """All of a batch that was cut from the queue. O(batch)."""
        observe = self._tally.queue_wait.observe
        for place in range(batch.size):
            for request in batch.row(place) if batch.twins else (batch.requests[place],):
                request.state = State.RUNNING
                self.running += 1
                observe(now - request.arrival)
        self._tally.shared += sum(map(len, batch.twins.values()))

    def put_back(self, requests: Sequence[Request]) -> None:
        """From a batch to the queue."""
        for request in requests:
            request.state = State.WAITING
        self.running -= len(requests)
        self._tally.retried += len(requests)

    def finished(self, request: Request, outcome: Outcome) -> None:
        """The one step to DONE; whoever holds a WAITING request has taken it off the queue."""
        if request.state is State.RUNNING:
            self.running -= 1
        request.state = State.DONE
        self._tally.outcomes[_kind(outcome)] += 1

    def condemned(self, count: int) -> None:
        self._tally.poison += count

    def ended(self, report: BatchReport) -> None:
        self._tally.observe(report)

    def recent(self) -> list[BatchReport]:
        """Batches, newest last."""
        return list(self._tally.recent)

    def snapshot(self, phase: str, now: float, replicas: tuple[ReplicaSnapshot, ...]) -> Snapshot:
        tally, pending, schedule = self._tally, self._pending, self._schedule
        return Snapshot(
            phase=phase,
            accepted=tally.accepted,
            ok=tally.outcomes["ok"],
            failed=tally.outcomes["failed"],
            expired=tally.outcomes["expired"],
            cancelled=tally.outcomes["cancelled"],
            refused=dict(tally.refused),
            retried=tally.retried,
            poison=tally.poison,
            shared=tally.shared,
            cached=tally.cached,
            waiting=len(pending),
            waiting_bulk=pending.bulk,
            waiting_tokens=pending.tokens,
            running=self.running,
            oldest_age=now - pending.oldest.arrival if pending else 0.0,
            predicted_batch=schedule.next_batch_seconds(),
            handoff=schedule.handoff,
            batches=dict(tally.batches),
            queue_wait=tally.queue_wait.snapshot(),
            inference=tally.inference.snapshot(),
            batch_size=tally.batch_size.snapshot(),
            batch_tokens=tally.batch_tokens.snapshot(),
            batch_padding=tally.batch_padding.snapshot(),
            batch_oldest_wait=tally.batch_oldest_wait.snapshot(),
            batch_predicted=tally.batch_predicted.snapshot(),
            batch_prediction_error=tally.batch_prediction_error.snapshot(),
            replicas=replicas,
        )

    def __repr__(self) -> str:
        return f"<Ledger {len(self._pending)} waiting, {self.running} running>"


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Answer):
        return "ok"
    if isinstance(outcome, DeadlineExceeded):
        return "expired"
    return "cancelled" if isinstance(outcome, Cancelled) else "failed"
