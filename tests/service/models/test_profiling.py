"""The warm-up grid: small first, bounded, and no larger than what fits."""

from __future__ import annotations

import pytest

from service.models.create import create_runner
from service.models.profiling import MOST_TOKENS, grid, measure
from tests.service.configs import runner_config

Lines = list[str]


class Device:
    """Takes `fixed` and `per_token` seconds; holds `room` tokens."""

    def __init__(self, fixed: float, per_token: float, room: int = 10**9) -> None:
        self.fixed, self.per_token, self.room = fixed, per_token, room
        self.ran: list[tuple[int, int]] = []
        self.spent = 0.0

    def run(self, size: int, length: int) -> float:
        if size * length > self.room:
            raise MemoryError("no room")
        self.ran.append((size, length))
        seconds = self.fixed + self.per_token * size * length
        self.spent += seconds
        return seconds


def test_the_grid_grows_and_keeps_to_the_models_limit_and_its_own() -> None:
    for limit in (4, 256, 1 << 20):
        points = grid(limit)
        tokens = [size * length for size, length in points]
        assert tokens == sorted(tokens)
        assert max(tokens) <= MOST_TOKENS
        assert max(length for _, length in points) == min(limit, 512)
        assert len(set(points)) == len(points)


def test_a_fast_device_is_measured_everywhere_three_times() -> None:
    device, said = Device(0.001, 1e-7), Lines()
    points = measure(device.run, 256, said.append)
    assert [(size, tokens) for size, tokens, _ in points] == [(n, n * m) for n, m in grid(256)]
    assert len(device.ran) == 3 * len(points)
    for _, tokens, seconds in points:
        assert seconds == pytest.approx(0.001 + 1e-7 * tokens)
    assert len(said) == 1
    assert "28 points" in said[0]


@pytest.mark.parametrize("per_token", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_slow_device_is_measured_within_the_budget_on_its_small_batches(per_token: float) -> None:
    device, said = Device(0.002, per_token), Lines()
    points = measure(device.run, 512, said.append, budget=5.0)
    assert device.spent <= 5.0
    assert len(points) >= 3
    assert points == sorted(points, key=lambda point: point[1])


def test_a_device_slower_than_any_budget_gives_the_one_point_it_has_to() -> None:
    device, said = Device(60.0, 1.0), Lines()
    assert measure(device.run, 512, said.append) == [(1, 8, 68.0)]
    assert device.ran == [(1, 8)]


def test_nothing_larger_is_tried_than_what_did_not_fit() -> None:
    device, said = Device(0.001, 1e-7, room=1000), Lines()
    points = measure(device.run, 512, said.append)
    assert max(tokens for _, tokens, _ in points) <= 1000
    assert max(size * length for size, length in device.ran) == points[-1][1]
    assert "do not fit" in said[0]


def test_what_takes_long_runs_twice_and_within_the_budget() -> None:
    device = Device(0.150, 1e-6)
    points = measure(device.run, 512, Lines().append, budget=5.0)
    assert len(points) >= 10
    assert all(device.ran.count(point) == 2 for point in device.ran)
    assert device.spent <= 5.0


def test_slow_runs_are_not_believed_where_one_was_quicker() -> None:
    times = iter([0.050, 0.030, 0.001] * 100)
    points = measure(lambda size, length: next(times), 256, Lines().append)
    assert {seconds for _, _, seconds in points} == {0.001}


def test_the_simulated_accelerator_knows_its_profile() -> None:
    config = runner_config("m", sim_fixed_ms=50, sim_per_item_ms=5, sim_per_token_us=10)
    facts = create_runner("simulated", config).warm_up()
    assert facts["profile_source"] == "analytic"
    profile = facts["profile"]
    assert isinstance(profile, list)
    for size, tokens, seconds in profile:
        assert seconds == pytest.approx(0.050 + 0.005 * size + 1e-5 * tokens)


def test_a_simulated_accelerator_that_takes_no_time_has_no_profile() -> None:
    config = runner_config("m", sim_fixed_ms=0, sim_per_item_ms=0)
    assert create_runner("simulated", config).warm_up()["profile"] == []
