"""How soon, and how often."""

from __future__ import annotations

from batcher.supervision.restarts import Restarts, WorkerRestarts


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


def test_a_worker_is_started_again_at_once_twice_then_later_and_later_but_never_given_up() -> None:
    restarts = WorkerRestarts()
    assert [restarts.next_delay() for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert [restarts.next_delay() for _ in range(100)][-1] == 30.0
    restarts.attempts = 0  # a run went well
    assert restarts.next_delay() == 0.0


def test_a_worker_is_broken_from_the_third_start_in_a_row_on() -> None:
    restarts, broken = WorkerRestarts(), []
    for _ in range(4):
        broken.append(restarts.is_broken)
        restarts.next_delay()
    assert broken == [False, False, False, True]


def test_the_workers_that_an_input_has_killed_count_for_nothing_once_it_is_known() -> None:
    restarts = WorkerRestarts()
    for _ in range(4):
        restarts.next_delay()
    restarts.poison_found()
    assert restarts.attempts == 1
    restarts.poison_found()
    assert restarts.attempts == 0


def test_a_worker_that_did_not_start_at_first_is_given_a_moment() -> None:
    restarts = WorkerRestarts()
    restarts.first_start_failed()
    assert restarts.next_delay() == 0.5
