"""How soon, and how often."""

from __future__ import annotations

from batcher.supervision.restarts import Restarts


def test_one_that_was_up_is_started_again_at_once() -> None:
    restarts = Restarts()
    restarts.came_up(0.0)
    assert restarts.died(100.0) == 0.0


def test_one_that_dies_again_and_again_is_given_more_and_more_time_but_never_up() -> None:
    restarts, now, waits = Restarts(), 0.0, []
    for _ in range(1_200):  # two to that power is no float
        restarts.came_up(now)
        now += 1.0
        waits.append(restarts.died(now))
    assert waits[:5] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 5.0
    restarts.came_up(now)
    assert restarts.died(now + 60.0) == 0.0  # that is forgotten


def test_one_that_never_comes_up_is_given_up_after_the_fifth_time() -> None:
    restarts = Restarts()
    waits = [restarts.died(0.0) for _ in range(5)]
    assert waits == [0.0, 0.1, 0.2, 0.4, None]


def test_starts_in_vain_count_in_a_row_only() -> None:
    restarts = Restarts()
    for _ in range(4):
        assert restarts.died(0.0) is not None
    restarts.came_up(0.0)
    for _ in range(5):
        assert restarts.died(0.0) is not None
    assert restarts.died(0.0) is None
