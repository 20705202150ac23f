"""Settlement: the batches in flight, from the cut to the outcome of each request. Guarded by the
collector's lock.

A batch ends once, in one of three ways: settle gives each request its outcome, halve and requeue
hand on those that can still be in time.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from batcher.errors import BatcherError, DeadlineExceeded, Draining, PoisonRequest
from batcher.failures import as_outcome, no_answer_within
from batcher.ledger import Ledger
from batcher.request import ALONE, Answer, Batch, BatchReport, Outbox, Request, State
from batcher.scheduling.schedule import Schedule
from batcher.scheduling.selection import Selection
from batcher.scheduling.sharing import Sharing, Split
from batcher.supervision.supervision import Supervision

_FROM_CACHE = BatchReport(-1, 0, 0, 0, 0, 0.0, "cache", 0.0, 0.0, 0.0, 0.0)
_NO_ROW = (None, 0)
_RETRY_ELSEWHERE_SECONDS = 1.0  # for callers of a service that shuts down


class Settlement:
    def __init__(
        self, schedule: Schedule, supervision: Supervision, sharing: Sharing, ledger: Ledger
    ) -> None:
        self._schedule = schedule
        self._supervision = supervision
        self._sharing = sharing
        self._ledger = ledger
        self.in_flight = set[Batch]()  # none of these has ended
        self._has_shut_down = False  # then nothing runs again

    # Requests

    def withdraw(self, requests: Sequence[Request], why: BatcherError, outcomes: Outbox) -> None:
        for request in requests:
            if request.state is State.WAITING:
                self._schedule.pending.remove(request)
            if request.state is not State.DONE:
                self._ledger.finish(request, why, outcomes)

    def fail_waiting(self, why: BatcherError, outcomes: Outbox) -> None:
        """Empties the queue."""
        for request in self._schedule.pending.clear():
            self._ledger.finish(request, copy.copy(why), outcomes)

    def shut_down(self, why: BatcherError, outcomes: Outbox) -> None:
        self._has_shut_down = True
        self.fail_waiting(why, outcomes)

    def share(self, split: Split, now: float) -> Outbox:
        """Answers the cached requests; the coalesced ones join their rows."""
        outcomes: Outbox = defaultdict(list)
        self._ledger.counters.cached += len(split.cached)
        for request, value in split.cached:
            self._ledger.finish(request, Answer(value, 0.0, _FROM_CACHE), outcomes)
        for request, batch, row in split.coalesced:
            batch.duplicates.setdefault(row, []).append(request)
            self._ledger.coalesced(request)
        self._schedule.coalesced(len(split.coalesced), now)
        return outcomes

    # Batches

    def cut(
        self, replica: int, now: float, draining: bool, outcomes: Outbox, is_early: bool
    ) -> Batch | None:
        """A batch from the queue. None: all that waited were late."""
        selection = self._schedule.cut(replica, now, draining)
        for request in selection.late:
            self._ledger.finish(request, _late(request, now), outcomes)
        if not selection.taken:
            return None
        batch = self._begin(selection, replica, now, is_early)
        self._ledger.began(batch, now)
        return batch

    def begin_canary(self, replica: int, now: float) -> Batch:
        self._supervision.replicas[replica].canary_began(now)
        return self._begin(self._schedule.rerun(replica, (), now), replica, now)

    def _begin(
        self, selection: Selection, replica: int, now: float, is_early: bool = False
    ) -> Batch:
        assert selection.reason is not None, "the schedule gives each batch its reason"
        batch = Batch(
            selection.taken,
            selection.duplicates,
            replica,
            selection.reason,
            closed=now,
            predicted=selection.predicted,
            hang_timeout=self._supervision.hang_timeout(replica, selection, now),
            tokens=selection.tokens,
            useful_tokens=selection.useful_tokens,
            is_early=is_early,
        )
        self.in_flight.add(batch)
        for row, request in enumerate(batch.requests if self._sharing.shares else ()):
            if request.key is not None:
                self._sharing.rows[request.key] = (batch, row)
        return batch

    def settle(
        self,
        batch: Batch,
        results: Sequence[Any],
        errors: Sequence[BatcherError | None],
        seconds: float,
        now: float,
        outcomes: Outbox,
    ) -> None:
        """`errors`: by row, None where `results` has the row's result; `seconds`: in the runner."""
        report = self._end(batch, seconds)
        answered = 0
        is_kept = self._sharing.cache is not None
        for row, (result, error) in enumerate(zip(results, errors, strict=True)):
            for request in batch.row(row) if batch.duplicates else (batch.requests[row],):
                if request.state is State.RUNNING:  # else its caller has gone
                    wait = max(0.0, batch.closed - request.arrival)
                    # A copy for each caller: raising an exception changes it.
                    outcome = copy.copy(error) if error else Answer(result, wait, report)
                    self._ledger.finish(request, outcome, outcomes)
                    answered += 1
            if is_kept and error is None:
                self._sharing.keep(batch.requests[row], result)
        self._learn(batch, report, answered, now)
        if seconds > 0.0:
            self._supervision.ended_well(batch.replica, errors, now)

    def halve(
        self, batch: Batch, out_of_memory: bool, now: float, outcomes: Outbox
    ) -> Sequence[Batch]:
        self._learn(batch, self._end(batch), 0, now)
        if out_of_memory:
            ceiling = self._schedule.replicas[batch.replica].memory_ceiling
            ceiling.failed(len(batch.requests), batch.tokens, now)
        rows = self._still_wanted(batch, now, outcomes)
        middle = (len(rows) + 1) // 2
        return [
            self._begin(self._schedule.rerun(batch.replica, half, now), batch.replica, now)
            for half in (rows[:middle], rows[middle:])
            if half
        ]

    def requeue(self, batch: Batch, lost: bool, now: float, outcomes: Outbox) -> int:
        self._learn(batch, self._end(batch), 0, now)
        if lost:
            self._supervision.worker_lost(batch.replica, len(batch.requests))
        back: list[Request] = []
        poisoned = 0
        for row in self._still_wanted(batch, now, outcomes):
            workers_lost = max(request.workers_lost for request in row) + lost
            for request in row:  # some may have joined since the last loss
                request.workers_lost = min(workers_lost, ALONE)
            if self._supervision.is_poison(batch.replica, workers_lost):
                poisoned += self._condemn(row, batch, now, outcomes)
            else:
                back += row
        self._ledger.put_back(back)
        self._schedule.pending.put_back(back)
        return poisoned

    def _end(self, batch: Batch, seconds: float = 0.0) -> BatchReport:
        assert batch in self.in_flight, "ended twice: this is a bug"
        self.in_flight.remove(batch)
        rows, requests = self._sharing.rows, batch.requests
        for request in requests if rows else ():
            if rows.get(request.key, _NO_ROW)[0] is batch:
                del rows[request.key]
        return self._ledger.ended(batch, seconds)

    def _learn(self, batch: Batch, report: BatchReport, answered: int, now: float) -> None:
        self._schedule.ended(
            batch.replica,
            now,
            # A half has waited for the other half, an early batch for the one before it.
            began=None if batch.reason == "split" or batch.is_early else batch.closed,
            size=len(batch.requests),
            tokens=batch.tokens,
            useful_tokens=batch.useful_tokens,
            seconds=report.inference,
            released=answered,
        )

    def _still_wanted(self, batch: Batch, now: float, outcomes: Outbox) -> list[list[Request]]:
        """By row, the requests that can still be in time; finishes the others."""
        rows = []
        for place in range(len(batch.requests)):
            wanted = []
            for request in batch.row(place):
                if request.state is not State.RUNNING:  # its caller has gone
                    continue
                if request.deadline <= now:
                    late = DeadlineExceeded("the deadline passed while the request was retried")
                    self._ledger.finish(request, late, outcomes)
                elif self._has_shut_down:
                    why = Draining("the service has shut down", _RETRY_ELSEWHERE_SECONDS)
                    self._ledger.finish(request, why, outcomes)
                else:
                    wanted.append(request)
            if wanted:
                rows.append(wanted)
        return rows

    def _condemn(self, row: Sequence[Request], batch: Batch, now: float, outcomes: Outbox) -> int:
        """Fails these and all that wait with the same input. Returns how many."""
        pending = self._schedule.pending
        text = "this input has killed several workers, the last one alone"
        if self._supervision.has_hung(batch.replica):
            text += f": {no_answer_within(batch.hang_timeout)}"
        equal = self._supervision.condemn(row, batch.replica, pending, now)
        for request in equal:
            pending.remove(request)
        for request in (*row, *equal):
            self._ledger.finish(request, PoisonRequest(text), outcomes)
        self._ledger.counters.poison += len(row) + len(equal)
        return len(row) + len(equal)

    def __repr__(self) -> str:
        return f"<Settlement {len(self.in_flight)} batches in flight>"


def inspect(results: Sequence[Any]) -> tuple[Sequence[Any], Sequence[BatcherError | None]]:
    """The results by row, and the error of each row. Without the lock: they are objects of the
    model's own, and looking at them may take long."""
    kind = getattr(getattr(results, "dtype", None), "kind", "O")
    if kind != "O":  # numbers
        return list(results), [None] * len(results)  # each index into an array makes a new object
    return results, [
        as_outcome(result) if issubclass(type(result), Exception) else None for result in results
    ]


def _late(request: Request, now: float) -> DeadlineExceeded:
    if request.deadline <= now:
        return DeadlineExceeded("the deadline passed in the queue")
    return DeadlineExceeded(
        "the result would have come after the deadline, so the input was not run"
    )


def shutting_down() -> Draining:
    return Draining("the service is shutting down", _RETRY_ELSEWHERE_SECONDS)
