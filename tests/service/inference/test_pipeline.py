"""What comes off a client's timeout for the way of the answer."""

from __future__ import annotations

import pytest

from service.inference.pipeline import AnswerLag
from tests.fakes import report


def lag_of(*seconds: float) -> AnswerLag:
    lag = AnswerLag()
    for each in seconds:
        lag.observe(report(inference=0.2), 0.2 + each)
    return lag


def test_before_the_first_answer_nothing_comes_off() -> None:
    assert AnswerLag().subtract_from(1.0) == 1.0


def test_what_the_slowest_of_the_last_answers_took_comes_off_and_half_as_much_again() -> None:
    assert lag_of(0.004, 0.002).subtract_from(1.0) == pytest.approx(1.0 - 1.5 * 0.004 * 0.99)
    assert lag_of(0.004, *[0.001] * 500).subtract_from(1.0) == pytest.approx(1.0 - 1.5 * 0.001)


def test_never_more_than_a_tenth_of_the_timeout() -> None:
    assert lag_of(9.0).subtract_from(0.5) == pytest.approx(0.45)


def test_an_answer_from_memory_says_nothing() -> None:
    lag = lag_of(0.004)
    lag.observe(report(size=0), 9.0)
    assert lag.seconds == pytest.approx(0.004)
