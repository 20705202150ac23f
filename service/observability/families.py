"""Families of metrics as prometheus-client takes them, all with our prefix."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from batcher import HistogramSnapshot

_Samples = Iterable[tuple[tuple[str, ...], float]]


def counter(name: str, help_text: str, samples: _Samples, labels: tuple[str, ...] = ()) -> Metric:
    family = CounterMetricFamily(f"batcher_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauge(name: str, help_text: str, samples: _Samples, labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(f"batcher_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def add(
    family: HistogramMetricFamily, histogram: HistogramSnapshot, labels: tuple[str, ...]
) -> None:
    buckets, total = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
    family.add_metric(labels, buckets, sum_value=histogram.sum)
