"""Which shapes graphs are captured for: few, and no batch is padded by much."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.models.backends.torch.graph_shapes import (
    SHORTEST,
    STEP,
    Shape,
    capture_all,
    fit,
    shapes,
    smallest_in,
    steps,
)

ALL = shapes(64, 512)


@given(st.integers(1, 100), st.integers(1, 600))
def test_steps_rise_by_half_at_most_and_end_where_they_should(first: int, last: int) -> None:
    values = steps(first, last)
    assert values[0] == first
    assert values[-1] == max(first, last)
    pairs = list(itertools.pairwise(values))
    assert all(one < other <= max(one * STEP, one + 1) for one, other in pairs)


@given(st.integers(1, 64), st.integers(SHORTEST + 1, 512))
def test_no_batch_is_padded_beyond_the_bound(size: int, length: int) -> None:
    shape = fit(ALL, size, length)
    if shape is None:
        assert not any(each.holds(size, length) for each in ALL)
    else:
        assert shape.holds(size, length)
        assert shape.tokens <= STEP * STEP * size * length


@given(st.integers(1, 64), st.integers(1, 512))
def test_the_smallest_batch_of_a_shape_is_no_larger_than_any_that_runs_in_it(
    size: int, length: int
) -> None:
    shape = fit(ALL, size, length)
    if shape is not None:
        assert smallest_in(shape, ALL) <= Shape(size, length)
        assert smallest_in(shape, ALL).length <= length


def test_there_are_not_too_many_and_the_smallest_come_first() -> None:
    assert len(ALL) < 150
    assert ALL[0] == Shape(1, SHORTEST)
    assert [shape.tokens for shape in ALL] == sorted(shape.tokens for shape in ALL)
    assert max(shape.tokens for shape in ALL) <= 16_384


def test_a_model_with_few_positions_gets_no_longer_shape() -> None:
    assert {shape.length for shape in shapes(2, 5)} == {5}


def test_a_batch_that_no_shape_holds_has_none() -> None:
    assert fit(ALL, 65, 8) is None
    assert fit([], 1, 1) is None


def captured(seconds: float, enough: int = 99) -> list[Shape]:
    """A graph takes `seconds` a token; without one a batch takes a second, whatever its shape."""
    tried: list[Shape] = []

    def capture(shape: Shape) -> tuple[str, float]:
        tried.append(shape)
        return "graph", seconds * shape.tokens

    wanted = shapes(4, 12)  # sizes 1 2 3 4, lengths 8 12
    got = capture_all(wanted, capture, lambda _: 1.0, lambda: len(tried) >= enough)
    return [shape for shape, _ in got]


def test_graphs_that_pay_are_kept() -> None:
    assert captured(0.01) == shapes(4, 12)


@pytest.mark.parametrize(("seconds", "most"), [(1 / 16, 16), (1 / 24, 24), (1.0, 0)])
def test_a_graph_that_takes_longer_than_a_batch_without_is_not_used(
    seconds: float, most: int
) -> None:
    assert [shape.tokens for shape in captured(seconds)] == [
        shape.tokens for shape in shapes(4, 12) if shape.tokens <= most
    ]


def test_capturing_ends_with_its_budget() -> None:
    assert captured(0.01, enough=3) == shapes(4, 12)[:3]


def test_what_is_as_wide_and_as_long_as_a_graph_that_did_not_pay_is_not_tried() -> None:
    tried: list[Shape] = []

    def capture(shape: Shape) -> tuple[str, float]:
        tried.append(shape)
        return "graph", 0.0 if shape.size == 1 else 9.0

    list(capture_all(shapes(4, 12), capture, lambda _: 1.0, lambda: False))
    assert tried == [Shape(1, 8), Shape(1, 12), Shape(2, 8)]
