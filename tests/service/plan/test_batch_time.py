"""How long a batch takes, between what was measured and beyond it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.cache.profiles import ProfileKey, save_profile
from service.plan.batch_time import Linear, Measured, NoSpeed, find_device
from service.settings import Settings

# Sizes 1 and 8, lengths 16 and 64.
POINTS = [(1, 16, 0.010), (1, 64, 0.020), (8, 128, 0.024), (8, 512, 0.090)]


def test_what_was_measured_is_given_back() -> None:
    device = Measured(POINTS, "a test")
    assert [device.seconds(size, tokens) for size, tokens, _ in POINTS] == pytest.approx(
        [seconds for *_, seconds in POINTS]
    )


def test_between_sizes_and_lengths_it_goes_straight() -> None:
    device = Measured(POINTS, "a test")
    assert device.seconds(1, 40) == pytest.approx(0.015)
    assert device.seconds(8, 8 * 40) == pytest.approx(0.057)
    assert device.seconds(4, 4 * 16) == pytest.approx(0.010 + 3 / 7 * 0.014)


def test_beyond_the_largest_the_slope_goes_on_and_below_the_least_it_is_flat() -> None:
    device = Measured(POINTS, "a test")
    assert device.seconds(15, 15 * 16) == pytest.approx(0.038)
    assert device.seconds(1, 112) == pytest.approx(0.030)
    assert device.seconds(1, 2) == pytest.approx(0.010)


def test_one_size_alone_is_enough() -> None:
    assert Measured([(4, 64, 0.02)], "a test").seconds(9, 999) == 0.02


def test_what_is_given_by_hand_comes_first_then_the_simulated_accelerator() -> None:
    simulated = Settings(runner="simulated", sim_fixed_ms=5, sim_per_item_ms=1, sim_per_token_us=2)
    assert find_device(simulated, (1.0, 2.0, 3.0)).seconds(2, 5) == 1.0 + 4.0 + 15.0
    found = find_device(simulated, None)
    assert found.seconds(10, 500) == pytest.approx(0.005 + 0.010 + 0.001)
    assert isinstance(found, Linear)


@pytest.mark.parametrize("padding_free", [True, False])
def test_a_saved_profile_says_whether_padding_takes_time(
    tmp_path: Path, padding_free: bool
) -> None:
    key = ProfileKey("some/model", "c0ffee", "cpu (Chip)", "torch", "float32", 2, "torch 2")
    key = replace(key, padding_free=padding_free)
    assert save_profile(str(tmp_path), key, [(1, 8, 0.002)]) == ""
    found = find_device(Settings(model="some/model", cache_dir=str(tmp_path)), None)
    assert found.padding_free is padding_free


def test_a_saved_profile_says_how_fast_the_model_is(tmp_path: Path) -> None:
    key = ProfileKey("some/model", "c0ffee", "cpu (Chip)", "torch", "float32", 2, "torch 2")
    points = [(1, 8, 0.002), (1, 64, 0.009), (8, 64, 0.010), (8, 512, 0.066)]
    assert save_profile(str(tmp_path), key, points) == ""
    found = find_device(Settings(model="some/model", cache_dir=str(tmp_path)), None)
    assert found.points == points
    assert found.seconds(8, 64) == 0.010
    assert "cpu (Chip)" in found.source
    with pytest.raises(NoSpeed, match="no profile of some/other is saved"):
        find_device(Settings(model="some/other", cache_dir=str(tmp_path)), None)
