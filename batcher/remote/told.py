"""A snapshot and the batches as JSON, and back: what one process tells another of the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from batcher.request import BatchReport
from batcher.snapshot import HistogramSnapshot, ReplicaSnapshot, Snapshot

_HISTOGRAMS = [
    field.name for field in dataclasses.fields(Snapshot) if field.type == "HistogramSnapshot"
]
_REPORT = [field.name for field in dataclasses.fields(BatchReport)]


def told_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return dataclasses.asdict(snapshot)


def snapshot_from(told: dict[str, Any]) -> Snapshot:
    histograms = {name: _histogram(**told[name]) for name in _HISTOGRAMS}
    replicas = tuple(_replica(**each) for each in told["replicas"])
    return Snapshot(**{**told, **histograms, "replicas": replicas})


def told_batches(reports: Iterable[BatchReport]) -> list[list[Any]]:
    return [[getattr(report, name) for name in _REPORT] for report in reports]


def batches_from(told: Iterable[list[Any]]) -> list[BatchReport]:
    return [BatchReport(*each) for each in told]


def _histogram(bounds: list[float], counts: list[int], sum: float) -> HistogramSnapshot:
    return HistogramSnapshot(tuple(bounds), tuple(counts), sum)


def _replica(cost: list[float], **rest: Any) -> ReplicaSnapshot:
    seconds, each_row, each_token = cost
    return ReplicaSnapshot(cost=(seconds, each_row, each_token), **rest)
