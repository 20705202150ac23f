"""Counters and histograms of the engine, and a Snapshot of them: a frozen value."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from batcher.request import BatchReport
from batcher.runner import RunnerInfo


def _geometric(first: float, ratio: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{first * ratio**power:.3g}") for power in range(count))


SECONDS = _geometric(0.0005, 1.6, 24)  # 0.5 ms to about 25 s
SIZES = tuple(float(2**power) for power in range(11))  # 1 to 1,024
TOKENS = tuple(float(2**power) for power in range(2, 18))  # 4 to 131,072
RATIOS = tuple(step / 20 for step in range(20))
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
RECENT = 4096  # batches that are kept to be looked at


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    bounds: tuple[float, ...]  # upper, inclusive; one more bucket above the last
    counts: tuple[int, ...]  # per bucket, not cumulative
    sum: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0


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


ReplicaState = Literal["starting", "up", "restarting", "broken"]
"""Loading for the first time; taking batches; being restarted; restarted several times in vain."""


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    index: int
    state: ReplicaState
    busy: bool
    busy_seconds: float  # with a batch, in all
    busy_ratio: float  # of the last minute
    info: RunnerInfo  # what it reported when it last came up, or since
    restarts: Mapping[str, int]  # by reason
    reason: str  # why it was last lost or did not start; empty: never
    retry_in: float  # seconds until it is started again; 0 while up or starting
    last_ok_age: float | None  # seconds since a run went well; None: never
    fresh: bool  # that is not long ago, or there are no canaries
    safe_size: int | None  # a batch of more requests than this, and
    safe_tokens: int | None  # more tokens than this, does not fit the memory; None: not known yet
    max_batch_tokens: int  # as set, or as this device was measured to need
    cost: tuple[float, float, float]  # seconds of a batch, of each row, of each padded token

    @property
    def up(self) -> bool:
        return self.state == "up"

    @property
    def ready(self) -> bool:
        return self.up and self.fresh


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine at one instant.

    accepted = ok + failed + expired + cancelled + waiting + running, always.
    """

    phase: str  # open, draining, closed
    accepted: int
    ok: int
    failed: int
    expired: int
    cancelled: int
    refused: Mapping[str, int]  # requests that were not accepted, by error name
    retried: int  # times that a request went back to the queue
    poison: int  # requests that failed as poison
    shared: int  # requests that got the row of an equal one
    cached: int  # requests that were answered from the cache
    waiting: int
    waiting_bulk: int  # of them, in the lane for bulk
    waiting_tokens: int
    running: int
    oldest_age: float  # seconds
    predicted_batch: float  # seconds that a batch of all that waits would take
    handoff: float  # seconds that a batch takes beside its time in the runner, recently
    batches: Mapping[str, int]  # by closing reason
    queue_wait: HistogramSnapshot
    inference: HistogramSnapshot
    batch_size: HistogramSnapshot
    batch_tokens: HistogramSnapshot
    batch_padding: HistogramSnapshot
    batch_oldest_wait: HistogramSnapshot
    batch_predicted: HistogramSnapshot
    batch_prediction_error: HistogramSnapshot  # |predicted - inference| / inference
    replicas: tuple[ReplicaSnapshot, ...]

    @property
    def ready(self) -> bool:
        return self.phase == "open" and any(replica.ready for replica in self.replicas)


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
    inference: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_size: Histogram = field(default_factory=lambda: Histogram(SIZES))
    batch_tokens: Histogram = field(default_factory=lambda: Histogram(TOKENS))
    batch_padding: Histogram = field(default_factory=lambda: Histogram(RATIOS))
    batch_oldest_wait: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_predicted: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_prediction_error: Histogram = field(default_factory=lambda: Histogram(ERRORS))

    def observe(self, report: BatchReport) -> None:
        self.batches[report.reason] += 1
        if report.inference > 0.0:  # else it failed
            self.inference.observe(report.inference)
            error = abs(report.predicted - report.inference) / report.inference
            self.batch_prediction_error.observe(error)
        self.batch_size.observe(report.size)
        self.batch_tokens.observe(report.tokens)
        self.batch_padding.observe(report.padding_ratio)
        self.batch_oldest_wait.observe(report.oldest_wait)
        self.batch_predicted.observe(report.predicted)

    def frozen(self) -> dict[str, Any]:  # Any: a test checks names and types against Snapshot
        """The fields of a Snapshot that count."""
        return {each.name: _frozen(getattr(self, each.name)) for each in fields(self)}


def _frozen(value: int | Counter[str] | Histogram) -> int | dict[str, int] | HistogramSnapshot:
    if isinstance(value, Histogram):
        return value.snapshot()
    return dict(value) if isinstance(value, Counter) else value
