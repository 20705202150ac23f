"""The model of batch time: it learns a line, follows a change, and never runs away."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.cost import CostModel
from tests.batcher.conftest import examples

Shape = tuple[int, int]  # size, padded tokens


def linear(size: int, tokens: int, scale: float = 1.0) -> float:
    return scale * (0.004 + 0.0003 * size + 0.00002 * tokens)


def shapes(count: int, seed: int) -> list[Shape]:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 64) for _ in range(count)]
    return [(size, size * draw.randint(4, 256)) for size in sizes]


def test_before_the_first_batch_the_prediction_is_zero() -> None:
    model = CostModel()
    assert model.predict(1, 1) == 0.0
    assert model.predict(64, 16384) == 0.0
    assert model.observations == 0


def test_one_batch_is_enough_to_predict_its_like() -> None:
    model = CostModel()
    model.observe(8, 256, 0.020)
    assert model.predict(8, 256) == pytest.approx(0.020, rel=1e-3)


def test_a_linear_device_is_learned_exactly_from_a_dozen_batches() -> None:
    model = CostModel()
    for size, tokens in shapes(12, seed=1):
        model.observe(size, tokens, linear(size, tokens))
    for size, tokens in shapes(100, seed=2):
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), rel=0.01)
    assert model.observations == 12


def test_noise_averages_out_over_the_last_fifty_batches() -> None:
    model, noise = CostModel(), random.Random(3)
    for size, tokens in shapes(500, seed=4):
        model.observe(size, tokens, linear(size, tokens) + noise.gauss(0.0, 0.010))
    for size, tokens in shapes(50, seed=5):
        # Three weights from about fifty batches: 0.010 x sqrt(3 / 50), and four times that.
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), abs=0.010)


def test_a_device_that_slows_down_is_followed_within_two_hundred_batches() -> None:
    model = CostModel()
    for size, tokens in shapes(2000, seed=6):
        model.observe(size, tokens, linear(size, tokens))
    for size, tokens in shapes(200, seed=7):
        model.observe(size, tokens, linear(size, tokens, scale=2.0))
    for size, tokens in shapes(50, seed=8):
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens, 2.0), rel=0.1)


def test_a_day_of_batches_that_are_all_alike_does_not_make_the_next_odd_one_wild() -> None:
    model, noise = CostModel(), random.Random(9)
    for _ in range(50_000):
        model.observe(1, 8, 0.005 * noise.gauss(1.0, 0.05))
    model.observe(32, 4096, 0.050)
    assert model.predict(1, 8) == pytest.approx(0.005, rel=0.25)
    assert model.predict(32, 4096) == pytest.approx(0.050, rel=0.25)


def test_rounding_does_not_add_up_over_twenty_thousand_batches() -> None:
    model = CostModel()
    for size, tokens in shapes(20_000, seed=11):
        model.observe(size, tokens, linear(size, tokens))
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), abs=1e-4)


@examples(50)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 1024), st.integers(1, 131_072), st.floats(0.0, 100.0, allow_nan=False)
        ),
        max_size=60,
    )
)
def test_whatever_it_is_taught_a_prediction_is_finite_and_never_negative(
    lessons: list[tuple[int, int, float]],
) -> None:
    model = CostModel()
    for lesson in lessons:
        model.observe(*lesson)
        for size, tokens in ((1, 1), (64, 16_384), (1024, 131_072)):
            assert 0.0 <= model.predict(size, tokens) < float("inf")


def test_it_introduces_itself_in_units_people_use() -> None:
    model = CostModel()
    for size, tokens in shapes(200, seed=10):
        model.observe(size, tokens, linear(size, tokens))
    assert repr(model) == "<CostModel 4.00 ms + 0.300 ms/request + 20.00 us/token>"
