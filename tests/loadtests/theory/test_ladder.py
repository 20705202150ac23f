"""Claims about which rates are tried."""

import dataclasses

import pytest

from loadtests.drivers.outcomes import Outcome, Summary, summarise
from loadtests.theory import ladder


def visited(first: list[float], capacity: float) -> list[float]:
    return list(ladder.climb(first, lambda rate: rate < capacity))


def test_climb_begins_as_asked_and_stops_at_the_first_that_breaks():
    assert visited([250], capacity=55) == [250, 10, 20, 40, 60]


def test_climb_goes_above_the_first_rates_while_they_hold():
    assert visited([250], capacity=350)[-2:] == [320, 400]
    assert len(visited([], capacity=1e9)) == len(ladder.RUNGS)


def test_bisection_finds_where_the_answer_turns():
    assert ladder.bisect(0, 64, 10, lambda rate: rate > 41.5) == pytest.approx(41.5, abs=0.1)


def healthy() -> Summary:
    one = Outcome(0.0)
    one.sent, one.answered, one.status = 0.0, 0.02, "200"
    return summarise([one], 0, 1)


def test_broken_is_slow_or_unanswered():
    assert not ladder.broken(healthy())
    assert ladder.broken(dataclasses.replace(healthy(), p95_ms=2001.0))
    assert ladder.broken(dataclasses.replace(healthy(), answered_share=0.98))
