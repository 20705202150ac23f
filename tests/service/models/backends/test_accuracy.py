"""Which blocks go back to float32, and when a reduced precision is refused."""

from __future__ import annotations

import math

import pytest

from service.models.backends.guard import FLOORS, Verdict, judge

BLOCKS = ("a", "b", "c", "d")


class Model:
    """Each block spoils the cosine by its share, unless it is kept in float32."""

    def __init__(self, **spoils: float) -> None:
        self.spoils = spoils
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, kept: tuple[str, ...]) -> float:
        self.asked.append(kept)
        return 1.0 - sum(share for block, share in self.spoils.items() if block not in kept)


def test_what_is_good_enough_is_left_as_it_is_and_measured_once() -> None:
    model = Model(a=0.0002, b=0.0003)
    assert judge(model, BLOCKS, 0.999) == Verdict(1.0 - 0.0005, (), True)
    assert model.asked == [()]


def test_the_block_that_spoils_most_goes_back_first() -> None:
    verdict = judge(Model(a=0.001, b=0.004, c=0.0005, d=0.0), BLOCKS, 0.998)
    assert (verdict.kept, verdict.ok) == (("b",), True)


def test_no_more_blocks_go_back_than_are_needed() -> None:
    verdict = judge(Model(a=0.03, b=0.04, c=0.005, d=0.001), BLOCKS, 0.98)
    assert (verdict.kept, verdict.ok) == (("b", "a"), True)
    assert verdict.cosine == pytest.approx(0.994)


def test_with_half_of_the_blocks_in_float32_and_still_too_far_off_it_is_refused() -> None:
    verdict = judge(Model(a=0.1, b=0.1, c=0.1, d=0.1), BLOCKS, 0.98)
    assert (len(verdict.kept), verdict.ok) == (2, False)
    assert verdict.cosine == pytest.approx(0.8)


def test_a_model_without_blocks_is_as_good_as_it_is() -> None:
    assert judge(Model(all=0.1), (), 0.999) == Verdict(0.9, (), False)


def test_an_answer_that_is_no_number_is_never_good_enough() -> None:
    verdict = judge(lambda kept: math.nan, BLOCKS, 0.0)
    assert not verdict.ok
    assert verdict.cosine == -1.0


def test_every_reduced_precision_has_a_floor_and_float32_has_none() -> None:
    assert set(FLOORS) == {"bfloat16", "float16", "int8"}
