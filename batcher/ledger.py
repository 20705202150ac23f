"""Ledger: counts every accepted request once, as waiting, running or by its outcome, and makes each
change of its state. Guarded by the collector's lock."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from batcher.errors import Cancelled, DeadlineExceeded
from batcher.request import Answer, Batch, BatchReport, Outbox, Outcome, Request, State
from batcher.scheduling.schedule import Schedule
from batcher.snapshot import RECENT, HistogramSnapshot, ReplicaSnapshot, Snapshot


def _geometric(first: float, ratio: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{first * ratio**power:.3g}") for power in range(count))


SECONDS = _geometric(0.0005, 1.6, 24)  # 0.5 ms to about 25 s
SIZES = tuple(float(2**power) for power in range(11))  # 1 to 1,024
TOKENS = tuple(float(2**power) for power in range(2, 18))  # 4 to 131,072
RATIOS = tuple(step / 20 for step in range(20))
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> HistogramSnapshot:
        return HistogramSnapshot(self._bounds, tuple(self._counts), self._sum)


@dataclass(slots=True)
class EngineCounters:
    """Each field is one of Snapshot, by the same name: to add a counter, add it to both."""

    accepted: int = 0
    ok: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    poison: int = 0
    shared: int = 0
    cached: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    queue_wait: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    inference_of_inputs: float = 0.0
    inference: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_size: Histogram = field(default_factory=lambda: Histogram(SIZES))
    batch_tokens: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    batch_padding: Histogram = field(default_factory=lambda: Histogram(RATIOS))
    batch_oldest_wait: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_predicted: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_prediction_error: Histogram = field(default_factory=lambda: Histogram(ERRORS))

    def frozen(self) -> dict[str, Any]:  # Any: a test checks names and types against Snapshot
        """The fields of a Snapshot that count."""
        return {each.name: _frozen(getattr(self, each.name)) for each in fields(self)}


def _frozen(
    value: float | Counter[str] | Histogram,
) -> float | dict[str, int] | HistogramSnapshot:
    if isinstance(value, Histogram):
        return value.snapshot()
    return dict(value) if isinstance(value, Counter) else value


class Ledger:
    def __init__(self) -> None:
        self.counters = EngineCounters()
        self._recent: deque[BatchReport] = deque(maxlen=RECENT)
        self.running = 0  # requests that are RUNNING

    def coalesced(self, request: Request) -> None:
        """It has joined a row in flight."""
        request.state = State.RUNNING
        self.running += 1
        self.counters.shared += 1
        self.counters.queue_wait.observe(0.0)

    def began(self, batch: Batch, now: float) -> None:
        """All of a batch that was cut from the queue. O(batch)."""
        observe = self.counters.queue_wait.observe
        requests = batch.requests
        if batch.duplicates:
            shared = [each for others in batch.duplicates.values() for each in others]
            self.counters.shared += len(shared)
            requests = [*requests, *shared]
        for request in requests:
            request.state = State.RUNNING
            observe(now - request.arrival)
        self.running += len(requests)

    def put_back(self, requests: Sequence[Request]) -> None:
        """From a batch to the queue."""
        for request in requests:
            request.state = State.WAITING
        self.running -= len(requests)
        self.counters.retried += len(requests)

    def finish(self, request: Request, outcome: Outcome, outcomes: Outbox) -> None:
        """The one step to DONE. A request that was WAITING is off the queue already."""
        outcomes[request.sink].append((request, outcome))
        if request.state is State.RUNNING:
            self.running -= 1
        request.state = State.DONE
        if isinstance(outcome, Answer):
            self.counters.ok += 1
        elif isinstance(outcome, DeadlineExceeded):
            self.counters.expired += 1
        elif isinstance(outcome, Cancelled):
            self.counters.cancelled += 1
        else:
            self.counters.failed += 1

    def ended(self, batch: Batch, seconds: float) -> BatchReport:
        """`seconds` in the runner; 0: it failed. O(batch)."""
        requests = batch.requests
        oldest = min([request.arrival for request in requests], default=batch.closed)
        report = BatchReport(
            replica=batch.replica,
            size=len(requests),
            requests=len(requests) + sum(map(len, batch.duplicates.values())),
            tokens=batch.tokens,
            useful_tokens=batch.useful_tokens,
            padding_ratio=1.0 - batch.useful_tokens / batch.tokens if batch.tokens else 0.0,
            reason=batch.reason,
            closed=batch.closed,
            oldest_wait=batch.closed - oldest,
            predicted=batch.predicted,
            inference=seconds,
        )
        if not requests:  # canaries are not counted
            return report
        counters = self.counters
        self._recent.append(report)
        counters.batches[report.reason] += 1
        if report.inference > 0.0:  # else it failed
            counters.inference.observe(report.inference)
            counters.inference_of_inputs += report.inference * report.requests
            error = abs(report.predicted - report.inference) / report.inference
            counters.batch_prediction_error.observe(error)
        counters.batch_size.observe(report.size)
        counters.batch_tokens.observe(report.tokens)
        counters.batch_padding.observe(report.padding_ratio)
        counters.batch_oldest_wait.observe(report.oldest_wait)
        counters.batch_predicted.observe(report.predicted)
        return report

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
            **self.counters.frozen(),
        )

    def __repr__(self) -> str:
        return f"<Ledger {self.running} running>"
