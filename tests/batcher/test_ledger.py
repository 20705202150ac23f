"""Histograms and counters, and the value they are frozen into."""

from __future__ import annotations

import dataclasses

import pytest

from batcher.ledger import RATIOS, SECONDS, SIZES, TOKENS, EngineCounters, Histogram, Ledger
from batcher.request import Batch, BatchReport
from batcher.snapshot import HistogramSnapshot, Snapshot
from tests.fakes import request


@pytest.mark.parametrize("bounds", [SECONDS, SIZES, TOKENS, RATIOS])
def test_bounds_rise_strictly(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_seconds_reach_from_half_a_millisecond_to_past_twenty_seconds() -> None:
    assert SECONDS[0] == 0.0005
    assert SECONDS[-1] > 20.0


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.snapshot() == HistogramSnapshot((1.0, 2.0), (2, 2, 1), 7.5)


def test_count_and_mean_follow_from_the_buckets() -> None:
    histogram = Histogram((1.0,))
    assert (histogram.snapshot().count, histogram.snapshot().mean) == (0, 0.0)
    histogram.observe(1.0)
    histogram.observe(4.0)
    assert (histogram.snapshot().count, histogram.snapshot().mean) == (2, 2.5)


def test_a_snapshot_does_not_change_when_the_histogram_does() -> None:
    histogram = Histogram((1.0,))
    before = histogram.snapshot()
    histogram.observe(0.5)
    assert before.count == 0


def test_a_batch_counts_once_in_each_of_its_histograms() -> None:
    ledger = Ledger()
    rows = [request(arrival=1.5), *(request(arrival=1.75) for _ in range(3))]
    batch = Batch(rows, {2: [request(arrival=1.0)]}, 0, "full", 2.0, 0.5, 5.0, 40, 30)
    assert ledger.ended(batch, 2.0) == BatchReport(
        0,
        size=4,
        requests=5,
        tokens=40,
        useful_tokens=30,
        padding_ratio=0.25,
        reason="full",
        closed=2.0,
        oldest_wait=0.5,
        predicted=0.5,
        inference=2.0,
    )
    counters = ledger.counters
    assert counters.batches == {"full": 1}
    sums = {
        "inference": counters.inference.snapshot().sum,
        "size": counters.batch_size.snapshot().sum,
        "tokens": counters.batch_tokens.snapshot().sum,
        "padding": counters.batch_padding.snapshot().sum,
    }
    assert sums == {"inference": 2.0, "size": 4.0, "tokens": 40.0, "padding": 0.25}
    assert counters.inference_of_inputs == 10.0


def test_each_counter_has_its_field_in_the_snapshot_and_of_the_frozen_type() -> None:
    frozen = {
        int: "int",
        float: "float",
        dict: "Mapping[str, int]",
        HistogramSnapshot: "HistogramSnapshot",
    }
    declared = {field.name: field.type for field in dataclasses.fields(Snapshot)}
    for name, value in EngineCounters().frozen().items():
        assert declared[name] == frozen[type(value)], name


def test_frozen_counters_do_not_change_when_the_counters_do() -> None:
    counters = EngineCounters()
    before = counters.frozen()
    counters.refused["Overloaded"] += 1
    counters.accepted += 1
    assert (before["refused"], before["accepted"]) == ({}, 0)
