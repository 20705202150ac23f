"""Which neighbours in length make the best batch: against every run there is, and by example."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.scheduling.lengths import neighbours
from tests.batcher.conftest import examples

Weights = tuple[float, float, float]


def rate(costs: list[int], weights: Weights, max_size: int) -> float:
    """Work for its time, as the module defines it."""
    fixed, per_member, per_token = weights
    work = sum(per_member + fixed / max_size + per_token * cost for cost in costs)
    return work / (fixed + (per_member + per_token * max(costs)) * len(costs))


def seconds(costs: list[int], weights: Weights) -> float:
    fixed, per_member, per_token = weights
    return fixed + (per_member + per_token * max(costs)) * len(costs)


def is_clearly_cheaper_in_two(costs: list[int], weights: Weights) -> bool:
    """Would any two batches of neighbours, and half the fixed time of a third, take less time than
    the one? (`costs` in order.)"""
    half = weights[0] / 2
    parts = [(costs[:cut], costs[cut:]) for cut in range(1, len(costs))]
    return any(
        seconds(one, weights) + seconds(other, weights) + half < seconds(costs, weights) - 1e-9
        for one, other in parts
    )


def best_rate(
    costs: list[int],
    anchor: int,
    weights: Weights,
    max_size: int,
    max_tokens: float,
) -> float:
    """Of every run of the sorted costs that holds the anchor, which is the first of its equals."""
    ordered = sorted(costs)
    pivot = ordered.index(costs[anchor])  # equals are as good as each other
    best = rate([costs[anchor]], weights, max_size)  # a request alone goes whatever its length
    for left in range(pivot + 1):
        for right in range(pivot, min(len(ordered), left + max_size)):
            run = ordered[left : right + 1]
            if len(run) * run[-1] <= max_tokens:
                best = max(best, rate(run, weights, max_size))
    return best


weights = st.tuples(
    st.sampled_from([0.0, 1.0, 20.0]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.01, 0.25])
)


@examples(400)
@given(data=st.data(), costs=st.lists(st.integers(1, 12), min_size=1, max_size=9))
def test_no_run_with_the_anchor_does_more_work_for_its_time_unless_two_are_clearly_cheaper(
    data: Any, costs: list[int]
) -> None:
    anchor = data.draw(st.integers(0, len(costs) - 1))
    weighed, max_size = data.draw(weights), data.draw(st.integers(1, 6))
    max_tokens = data.draw(st.sampled_from([10, 30, 1000]))
    places = neighbours(costs, anchor, weighed, max_size, max_tokens)
    chosen = [costs[place] for place in places]
    assert not is_clearly_cheaper_in_two(chosen, weighed)
    best = best_rate(costs, anchor, weighed, max_size, max_tokens)
    found = rate(chosen, weighed, max_size)
    assert found <= best + 1e-9
    if weighed[0] == 20.0:  # then no two batches are cheaper than one
        assert found == pytest.approx(best)


@examples(400)
@given(data=st.data(), costs=st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_whatever_it_chooses_may_go_together_and_skips_nobody_for_an_equal(
    data: Any, costs: list[int]
) -> None:
    anchor = data.draw(st.integers(0, len(costs) - 1))
    max_size = data.draw(st.integers(1, 6))
    max_tokens = data.draw(st.sampled_from([10, 30, 1000]))
    places = neighbours(costs, anchor, data.draw(weights), max_size, max_tokens)
    chosen = [costs[place] for place in places]
    assert anchor in places
    assert len(set(places)) == len(places) <= max_size
    assert chosen == sorted(chosen)
    assert len(places) == 1 or len(places) * chosen[-1] <= max_tokens
    left = set(range(len(costs))) - set(places)
    assert not any(chosen[0] < costs[each] < chosen[-1] for each in left)
    for place in set(places) - {anchor}:  # which goes before others of its length
        assert all(each > place for each in left if costs[each] == costs[place])


def test_all_of_one_length_are_taken_in_order_as_far_as_they_fit() -> None:
    assert neighbours([8] * 10, 0, (1.0, 0.0, 0.1), 4, 1000) == [0, 1, 2, 3]
    assert neighbours([8] * 10, 0, (1.0, 0.0, 0.1), 9, 40) == [0, 1, 2, 3, 4]


def test_the_anchor_goes_before_its_equals_wherever_it_stands() -> None:
    places = neighbours([8] * 10, 7, (1.0, 0.0, 0.1), 3, 1000)
    assert sorted(places) == [0, 1, 7]


def test_two_lengths_far_apart_make_two_batches() -> None:
    costs = [10, 500, 12, 501, 11, 499]
    chosen = neighbours(costs, 0, (0.001, 0.0, 0.0001), 64, 16384)
    assert sorted(chosen) == [0, 2, 4]
    chosen = neighbours(costs, 1, (0.001, 0.0, 0.0001), 64, 16384)
    assert sorted(chosen) == [1, 3, 5]


def test_where_a_batch_costs_much_and_tokens_little_everybody_goes_together() -> None:
    costs = [10, 500, 12, 510, 11, 490]
    assert len(neighbours(costs, 0, (1.0, 0.0, 1e-6), 64, 16384)) == 6


def test_one_too_long_for_any_batch_goes_alone() -> None:
    assert neighbours([10, 999, 10], 1, (1.0, 0.0, 0.1), 64, 500) == [1]


def test_a_few_short_texts_do_not_share_the_batch_of_a_long_one() -> None:
    # Together 0.202 s; one after the other 0.122 s and 0.041 s.
    weighed = (0.040, 0.0, 1e-4)
    assert neighbours([2, 398, 2, 2], 0, weighed, 16, 16384) == [0, 2, 3]
    assert neighbours([398, 2, 2, 2], 0, weighed, 16, 16384) == [0]
    assert sorted(neighbours([398, 2, 398, 2], 0, weighed, 16, 16384)) == [0, 2]
