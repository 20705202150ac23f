"""HTTP requests by route and outcome: as one process counts them, and as the sum of several. As
JSON between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batcher import HistogramSnapshot
from batcher.ledger import SECONDS, Histogram
from service.http.templates import Templates

Counts = Mapping[tuple[str, str], HistogramSnapshot]
"""How long HTTP requests took, by route and outcome."""


class HttpDurations:
    """HTTP requests by route and outcome. Used from the event loop only."""

    def __init__(self) -> None:
        self.routes = ()
        self.durations: dict[tuple[str, str], Histogram] = {}

    @property
    def routes(self) -> tuple[str, ...]:
        """The paths and templates that get a label of their own."""
        return self._routes

    @routes.setter
    def routes(self, routes: tuple[str, ...]) -> None:
        self._routes = routes
        self._templates = Templates({route: route for route in routes})

    def observe(self, path: str, outcome: str, seconds: float) -> None:
        durations = self.durations.get((path, outcome))
        if durations is None:
            # All other paths under one label: a caller must not be able to make labels.
            key = (self._route_of(path), outcome)
            durations = self.durations.setdefault(key, Histogram(SECONDS))
        durations.observe(seconds)

    def clear(self) -> None:
        self.durations.clear()

    def _route_of(self, path: str) -> str:
        if path in self._routes:
            return path
        return self._templates.find(path) or "other"

    def snapshot(self) -> dict[tuple[str, str], HistogramSnapshot]:
        return {key: one.snapshot() for key, one in self.durations.items()}

    def counts(self) -> dict[tuple[str, str], int]:
        return {key: one.snapshot().count for key, one in self.durations.items()}


def added(one: Counts, other: Counts) -> Counts:
    total = dict(one)
    for key, histogram in other.items():
        mine = total.get(key)
        total[key] = histogram if mine is None else _sum(mine, histogram)
    return total


def as_json(counts: Counts) -> list[Any]:
    return [[*key, each.bounds, each.counts, each.sum] for key, each in counts.items()]


def counts_from(listed: list[Any]) -> Counts:
    return {
        (route, outcome): HistogramSnapshot(tuple(bounds), tuple(counts), total)
        for route, outcome, bounds, counts, total in listed
    }


def _sum(one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot:
    assert one.bounds == other.bounds, "two frontends with different buckets: this is a bug"
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSnapshot(one.bounds, counts, one.sum + other.sum)
