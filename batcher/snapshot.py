"""Snapshot: the engine at one instant, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from batcher.runner import RunnerInfo

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
class StageSnapshot:
    """One of preprocess, predict and postprocess."""

    inside: int  # inputs that wait for it or are in it
    ok: int  # that have passed it
    failed: int  # in it
    queue_wait: HistogramSnapshot
    seconds: HistogramSnapshot


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
    inference_of_inputs: float  # seconds, those of a batch once for each of its inputs
    inference: HistogramSnapshot
    batch_size: HistogramSnapshot
    batch_tokens: HistogramSnapshot
    batch_padding: HistogramSnapshot
    batch_oldest_wait: HistogramSnapshot
    batch_predicted: HistogramSnapshot
    batch_prediction_error: HistogramSnapshot  # |predicted - inference| / inference
    replicas: tuple[ReplicaSnapshot, ...]
    # Where inputs go through stages: by name, and the processes of those beside the device.
    stages: Mapping[str, StageSnapshot] = field(default_factory=dict)
    cpu_workers: tuple[ReplicaSnapshot, ...] = ()
    waits_for_stages: bool = False  # they are being started

    @property
    def ready(self) -> bool:
        is_up = any(replica.ready for replica in self.replicas) and (
            not self.cpu_workers or any(worker.up for worker in self.cpu_workers)
        )
        return self.phase == "open" and is_up and not self.waits_for_stages
