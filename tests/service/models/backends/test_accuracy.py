"""Which blocks go back to float32, and when a reduced precision is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from service.models.backends.accuracy import Verdict, judge
from service.models.measures import Cosine, Directions, Logits, Measure

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
    assert verdict.agreement == pytest.approx(0.994)


def test_with_half_of_the_blocks_in_float32_and_still_too_far_off_it_is_refused() -> None:
    verdict = judge(Model(a=0.1, b=0.1, c=0.1, d=0.1), BLOCKS, 0.98)
    assert (len(verdict.kept), verdict.ok) == (2, False)
    assert verdict.agreement == pytest.approx(0.8)


def test_a_model_without_blocks_is_as_good_as_it_is() -> None:
    assert judge(Model(all=0.1), (), 0.999) == Verdict(0.9, (), False)


def test_an_answer_that_is_no_number_is_never_good_enough() -> None:
    verdict = judge(lambda kept: math.nan, BLOCKS, 0.0)
    assert not verdict.ok
    assert verdict.agreement == -1.0


@pytest.mark.parametrize("measure", [Cosine(), Directions(), Logits()])
def test_every_reduced_precision_has_a_floor_and_float32_has_none(measure: Measure) -> None:
    for dtype in ("bfloat16", "float16", "int8"):
        assert 0.5 < (measure.floor(dtype, None) or 0.0) < 1.0
    assert measure.floor("float32", None) is None
    assert measure.floor("float32", 0.9) is None


def test_a_cosine_may_be_asked_for_and_says_nothing_of_logits() -> None:
    assert Cosine().floor("int8", 0.5) == 0.5
    assert Logits().floor("int8", 0.5) == Logits().floor("int8", None)


def rows(*values: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_the_cosine_is_that_of_the_worst_row_and_no_number_where_there_is_none() -> None:
    reference = rows([1, 0], [0, 2])
    assert Cosine().agreement(rows([3, 0], [0, 1]), reference) == 1.0
    assert Cosine().agreement(rows([3, 0], [1, 1]), reference) == pytest.approx(0.5**0.5)
    assert math.isnan(Cosine().agreement(rows([0, 0], [0, 1]), reference))
    assert math.isnan(Cosine().agreement(rows([math.nan, 0], [0, 1]), reference))


def test_vectors_of_length_1_agree_by_their_direction_and_by_the_length_they_had() -> None:
    reference = rows([1, 0, 10], [0, 1, 2])
    for answers, agreement, distance in (
        (rows([1, 0, 10], [0, 1, 2]), 1.0, 0.0),
        (rows([1, 0, 10], [0.6, 0.8, 2]), 0.8, 0.6),
        (rows([1, 0, 11], [0, 1, 2]), 220 / 221, 1 / 11),
        (rows([1, 0, 20], [0.6, 0.8, 2]), 0.8, 0.6),
        (rows([1, 0, 40], [0.6, 0.8, 2]), 800 / 1700, 0.75),
    ):
        assert Directions().agreement(answers, reference) == pytest.approx(agreement)
        assert Directions().distance(answers, reference) == pytest.approx(distance)
    for bad in (rows([math.nan, 0, 10], [0, 1, 2]), rows([1, 0, math.nan], [0, 1, 2])):
        assert math.isnan(Directions().agreement(bad, reference))
        assert math.isnan(Directions().distance(bad, reference))


def test_logits_agree_by_their_largest_difference() -> None:
    assert Logits().agreement(rows([1, 0], [0, 1]), rows([1, 0], [0, 1])) == 1.0
    assert Logits().agreement(rows([1, 0.1]), rows([1, 0])) == pytest.approx(0.9)
    assert Logits().agreement(rows([10, 1]), rows([10, 0])) == pytest.approx(0.9)  # of the largest
    assert math.isnan(Logits().agreement(rows([math.nan, 0]), rows([1, 0])))


def test_logits_in_another_order_agree_less() -> None:
    # Each is off by 0.06, and the labels, which were 0.1 apart, have changed places.
    assert Logits().agreement(rows([0.44, 0.46]), rows([0.5, 0.4])) == pytest.approx(0.9)
    one_label = rows([0.44], [0.46]), rows([0.5], [0.4])  # it is texts that are ranked
    assert Logits().agreement(*one_label) == pytest.approx(0.9)
