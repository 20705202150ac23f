"""What several fronts have counted, as one. Pure data, and as JSON between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batcher import HistogramSnapshot

Counts = Mapping[tuple[str, str], HistogramSnapshot]
"""How long HTTP requests took, by route and outcome."""


def added(one: Counts, other: Counts) -> Counts:
    total = dict(one)
    for key, histogram in other.items():
        mine = total.get(key)
        total[key] = histogram if mine is None else _sum(mine, histogram)
    return total


def told(counts: Counts) -> list[Any]:
    return [[*key, each.bounds, each.counts, each.sum] for key, each in counts.items()]


def counts_from(told: list[Any]) -> Counts:
    return {
        (route, outcome): HistogramSnapshot(tuple(bounds), tuple(counts), total)
        for route, outcome, bounds, counts, total in told
    }


def _sum(one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot:
    assert one.bounds == other.bounds, "two fronts with different buckets: this is a bug"
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSnapshot(one.bounds, counts, one.sum + other.sum)
