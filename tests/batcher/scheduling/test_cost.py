"""The model of batch time: it learns a line, follows a change, and never runs away."""

from __future__ import annotations

import random
import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.scheduling.cost import CostModel
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


WEIGHTS = st.tuples(st.floats(1e-3, 0.1), st.floats(0.0, 1e-2), st.floats(0.0, 1e-3))
LESSONS = st.lists(
    st.tuples(st.integers(1, 1024), st.integers(1, 512), st.floats(0.0, 100.0, allow_nan=False)),
    max_size=60,
)
GRID = [(size, size * length) for size in (1, 2, 4, 8, 16, 32, 64) for length in (8, 32, 128)]


def profile(slow: int | None = None, scale: float = 1.0) -> list[tuple[int, int, float]]:
    return [
        (size, tokens, linear(size, tokens, scale) * (50 if place == slow else 1))
        for place, (size, tokens) in enumerate(GRID)
    ]


def seeded() -> CostModel:
    model = CostModel()
    model.seed(profile())
    return model


@examples(100)
@given(LESSONS)
def test_no_weight_is_negative_and_a_larger_batch_is_never_predicted_to_be_shorter(
    lessons: list[tuple[int, int, float]],
) -> None:
    model = CostModel()
    for size, length, seconds in lessons:
        model.observe(size, size * length, seconds)
        fixed, per_request, per_token = model.weights
        assert min(fixed, per_request, per_token) >= 0.0
        for n, tokens in ((1, 8), (64, 4096), (1024, 131_072)):
            said = model.predict(n, tokens)
            assert said == pytest.approx(fixed + per_request * n + per_token * tokens)
            assert said <= model.predict(n + 1, tokens)
            assert said <= model.predict(n, tokens + 1)


@examples(100)
@given(WEIGHTS)
def test_the_weights_of_any_linear_device_are_recovered(
    weights: tuple[float, float, float],
) -> None:
    fixed, per_request, per_token = weights
    model = CostModel()
    for size, tokens in shapes(60, seed=12):
        model.observe(size, tokens, fixed + per_request * size + per_token * tokens)
    for size, tokens in shapes(40, seed=13):
        truth = fixed + per_request * size + per_token * tokens
        assert model.predict(size, tokens) == pytest.approx(truth, rel=0.02)


def test_where_requests_cost_nothing_their_weight_is_zero_and_the_others_are_right() -> None:
    model, noise = CostModel(), random.Random(14)
    for size, tokens in shapes(400, seed=15):
        seconds = (0.004 + 2e-5 * tokens) * noise.gauss(1.0, 0.03)
        model.observe(size, tokens, seconds)
        assert min(model.weights) >= 0.0
    fixed, per_request, per_token = model.weights
    assert fixed == pytest.approx(0.004, rel=0.15)
    assert per_request <= 5e-5
    assert per_token == pytest.approx(2e-5, rel=0.05)


@pytest.mark.parametrize("length", [1, 8, 32, 512])
def test_texts_of_one_length_are_predicted_though_requests_and_tokens_cannot_be_told_apart(
    length: int,
) -> None:
    model, noise, sizes = CostModel(), random.Random(16), random.Random(17)
    for _ in range(500):
        size = sizes.randint(1, 64)
        model.observe(size, size * length, linear(size, size * length) * noise.gauss(1.0, 0.02))
        assert min(model.weights) >= 0.0
    for size in (1, 7, 64):
        truth = linear(size, size * length)
        assert model.predict(size, size * length) == pytest.approx(truth, rel=0.05)


def test_a_profile_is_enough_to_predict() -> None:
    model = seeded()
    assert model.observations == len(GRID)
    for size, tokens in shapes(50, seed=18):
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), rel=0.001)
    assert model.weights == pytest.approx((0.004, 0.0003, 0.00002), rel=0.001)
    assert model.largest == (64, 64 * 128, pytest.approx(linear(64, 64 * 128)))


@examples(len(GRID))
@given(st.integers(0, len(GRID) - 1))
def test_one_point_of_the_profile_that_took_fifty_times_as_long_changes_nothing(slow: int) -> None:
    model = CostModel()
    model.seed(profile(slow))
    for size, tokens in shapes(50, seed=19):
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), rel=0.03)


def test_a_second_profile_replaces_the_first() -> None:
    model = seeded()
    model.seed(profile(scale=3.0))
    assert model.predict(8, 256) == pytest.approx(linear(8, 256, 3.0), rel=0.001)
    assert model.observations == len(GRID)


def test_points_that_make_no_sense_are_left_out() -> None:
    model = CostModel()
    nonsense: list[list[float]] = [
        [1, 8],
        [0, 8, 0.1],
        [1, 0, 0.1],
        [1, 8, 0.0],
        [1, 8, float("nan")],
        [1, 8, float("inf")],
        ["1", 8, 0.1],  # type: ignore[list-item]  # from a file
    ]
    model.seed(nonsense)
    assert model.observations == 0
    assert model.predict(1, 8) == 0.0
    model.seed([*nonsense, *profile()])
    assert model.predict(8, 256) == pytest.approx(linear(8, 256), rel=0.001)


@examples(30)
@given(st.sampled_from(GRID), st.floats(2.0, 1000.0), st.booleans())
def test_one_batch_out_of_line_hardly_counts(
    shape: tuple[int, int], times: float, warm: bool
) -> None:
    model = seeded()
    if warm:
        for size, tokens in shapes(100, seed=20):
            model.observe(size, tokens, linear(size, tokens))
    model.observe(*shape, linear(*shape) * times)
    for size, tokens in GRID:
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), rel=0.1)


@examples(30)
@given(st.floats(1.5, 20.0), st.booleans(), st.integers(0, 1000))
def test_a_lasting_change_is_followed_within_ten_batches(
    times: float, slower: bool, seed: int
) -> None:
    scale = times if slower else 1 / times
    model, noise = seeded(), random.Random(seed)
    for size, tokens in shapes(200, seed=seed):
        model.observe(size, tokens, linear(size, tokens) * noise.gauss(1.0, 0.03))
    for size, tokens in shapes(10, seed=seed + 1):
        model.observe(size, tokens, linear(size, tokens, scale) * noise.gauss(1.0, 0.03))
    for size, tokens in GRID:
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens, scale), rel=0.2)


def test_traffic_that_is_all_alike_does_not_wipe_out_what_the_profile_said() -> None:
    model, noise = seeded(), random.Random(21)
    for _ in range(5000):
        model.observe(4, 64, linear(4, 64) * noise.gauss(1.0, 0.05))
    for size, tokens in GRID:
        assert model.predict(size, tokens) == pytest.approx(linear(size, tokens), rel=0.3)


def test_before_any_batch_the_margin_is_zero() -> None:
    assert CostModel().margin == 0.0
    assert seeded().margin == 0.0


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_nineteen_batches_in_twenty_end_within_the_margin(spread: float) -> None:
    model, noise = seeded(), random.Random(22)
    within = []
    for place, (size, tokens) in enumerate(shapes(3000, seed=23)):
        seconds = linear(size, tokens) * max(0.05, noise.gauss(1.0, spread))
        if place >= 200:
            within.append(seconds <= model.predict(size, tokens) * (1 + model.margin))
        model.observe(size, tokens, seconds)
    assert statistics.mean(within) == pytest.approx(0.95, abs=0.03)


def test_one_wild_batch_moves_the_margin_no_further_than_any_other() -> None:
    model, noise = seeded(), random.Random(24)
    for size, tokens in shapes(300, seed=25):
        model.observe(size, tokens, linear(size, tokens) * noise.gauss(1.0, 0.05))
    before = model.margin
    model.observe(8, 256, linear(8, 256) * 1000)
    assert before > 0.0
    assert model.margin <= before + 0.05


def test_at_the_token_budget_a_batch_spends_a_twentieth_of_its_time_on_the_fixed_cost() -> None:
    model = seeded()
    requests = sum(size for size, _ in GRID)
    tokens = sum(tokens for _, tokens in GRID)
    budget = model.token_budget()
    seconds = model.predict(round(budget * requests / tokens), budget)
    assert model.weights[0] / seconds == pytest.approx(0.05, rel=0.02)


def test_the_token_budget_of_a_device_that_takes_no_longer_for_more_has_no_end() -> None:
    assert CostModel().token_budget() == sys.maxsize
    model = CostModel()
    model.seed([(size, tokens, 0.010) for size, tokens in GRID])
    assert model.token_budget() > 1_000_000


def test_the_token_budget_of_a_device_without_a_fixed_cost_is_one() -> None:
    model = CostModel()
    model.seed([(size, tokens, 1e-4 * tokens) for size, tokens in GRID])
    assert model.token_budget() <= 8


def test_it_introduces_itself_in_units_people_use() -> None:
    model = CostModel()
    for size, tokens in shapes(200, seed=10):
        model.observe(size, tokens, linear(size, tokens))
    assert repr(model) == "<CostModel 4.00 ms + 0.300 ms/request + 20.00 us/token>"
