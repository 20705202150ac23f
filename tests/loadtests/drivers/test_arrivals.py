"""Claims about when requests are sent."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drivers import arrivals


def test_poisson_is_the_same_for_the_same_seed_and_another_for_another():
    first, again = arrivals.poisson(50, 10, seed=3), arrivals.poisson(50, 10, seed=3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:100], arrivals.poisson(50, 10, seed=4)[:100])


def test_poisson_gaps_have_the_rate_and_the_spread_of_an_exponential():
    times = arrivals.poisson(200, 500, seed=1)
    gaps = np.diff(times)
    assert len(times) / 500 == pytest.approx(200, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.02)


@settings(deadline=None)  # The machine may be busy; the claim is not about time.
@given(st.floats(0.5, 2000), st.floats(0.1, 20), st.integers(0, 1000), st.sampled_from("pcbt"))
def test_times_rise_and_stay_inside_the_run(rate: float, seconds: float, seed: int, kind: str):
    if kind == "p":
        times = arrivals.poisson(rate, seconds, seed)
    elif kind == "c":
        times = arrivals.constant(rate, seconds)
    elif kind == "b":
        times = arrivals.bursts(rate, seconds, seed)
    else:
        times = arrivals.replay([0, 0.5, 0.6, 3, 3.1], rate, seconds, seed)
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times <= seconds + 1 / rate))


def test_one_seed_is_one_pattern_at_every_rate():
    slow, fast = arrivals.poisson(10, 20, seed=7), arrivals.poisson(20, 10, seed=7)
    assert slow == pytest.approx(fast * 2)


def test_bursts_are_eight_within_a_millisecond_at_the_rate():
    times = arrivals.bursts(80, 1000, seed=3)
    assert len(times) / 1000 == pytest.approx(80, rel=0.03)
    starts = arrivals.poisson(10, 1000, seed=3)
    for start in starts[:100]:
        assert np.sum((times >= start) & (times < start + 0.001)) >= 8


def test_constant_arrivals_are_evenly_spaced_from_zero():
    assert arrivals.constant(4, 1).tolist() == [0, 0.25, 0.5, 0.75]


def test_replay_has_exactly_the_rate_and_keeps_the_bursts():
    trace = np.cumsum([0.0, *([0.001] * 9 + [1.0]) * 20]).tolist()  # Ten at once, then a second.
    times = arrivals.replay(trace, rate=100, seconds=5, seed=2)
    gaps = np.diff(times)
    assert len(times) == 500
    assert gaps.std() / gaps.mean() == pytest.approx(
        np.diff(trace).std() / np.diff(trace).mean(), rel=0.1
    )


def test_trace_is_read_in_seconds_from_its_first_arrival(tmp_path: Path):
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens\n"
        "2023-11-16 18:15:46.6805900,374\n2023-11-16 18:15:47.1805950,396\n"
    )
    assert arrivals.read_trace(path) == pytest.approx([0, 0.500005], abs=1e-6)


def test_file_without_timestamps_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv has no TIMESTAMP"):
        arrivals.read_trace(path)


def test_run_of_too_many_requests_is_refused():
    with pytest.raises(ValueError, match="over 1000000 requests"):
        arrivals.poisson(20_000, 600, seed=1)
