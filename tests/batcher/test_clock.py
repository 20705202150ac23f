"""The one real clock, and the fake one that the other tests stand on."""

from __future__ import annotations

import threading
import time

import pytest

from batcher.clock import MonotonicClock
from tests.fakes import PATIENCE, FakeClock, OutOfEvents, VirtualClock, join


def test_the_clock_is_the_monotonic_one() -> None:
    before = time.monotonic()
    now = MonotonicClock().now()
    assert before <= now <= time.monotonic()


@pytest.mark.parametrize("late", [0.0, -5.0, float("-inf")])
def test_a_wait_until_a_time_that_has_come_returns_at_once(late: float) -> None:
    clock, condition = MonotonicClock(), threading.Condition()
    with condition:
        clock.wait(condition, clock.now() + late)


@pytest.mark.parametrize("until", [None, 1e12, float("inf")])
def test_a_wait_without_an_end_that_a_machine_could_count_to_waits_to_be_notified(
    until: float | None,
) -> None:
    clock, condition = MonotonicClock(), threading.Condition()
    errors: list[BaseException] = []
    ready = threading.Event()

    def wait() -> None:
        try:
            with condition:
                ready.set()
                clock.wait(condition, until)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait, name="waiter")
    thread.start()
    assert ready.wait(PATIENCE)
    with condition:
        condition.notify()
    join(thread)
    assert errors == []


def test_a_fake_wait_ends_when_the_clock_reaches_its_deadline_and_not_before() -> None:
    clock, condition = FakeClock(), threading.Condition()
    ended: list[float] = []

    def wait() -> None:
        with condition:
            while clock.now() < 3.0:
                clock.wait(condition, 3.0)
            ended.append(clock.now())

    thread = threading.Thread(target=wait, name="waiter")
    thread.start()
    for _ in range(3):
        clock.until_blocked(3.0)
        assert ended == []
        clock.advance(1.0)
    join(thread)
    assert ended == [3.0]


def test_a_virtual_wait_runs_everything_of_an_instant_before_it_returns() -> None:
    clock, condition = VirtualClock(), threading.Condition()
    seen: list[tuple[str, float]] = []
    for name, time_ in (("late", 2.0), ("one", 1.0), ("two", 1.0)):
        clock.at(time_, lambda name=name: seen.append((name, clock.now())))
    with condition:
        clock.wait(condition, 1.5)
        assert seen == [("one", 1.0), ("two", 1.0)]
        clock.wait(condition, 1.5)
        assert (clock.now(), len(seen)) == (1.5, 2)
        clock.wait(condition, None)
        assert seen[2:] == [("late", 2.0)]
        with pytest.raises(OutOfEvents):
            clock.wait(condition, None)


def test_virtual_time_stops_at_the_horizon() -> None:
    clock, condition = VirtualClock(horizon=2.0), threading.Condition()
    with condition, pytest.raises(OutOfEvents):
        clock.wait(condition, 3.0)
    assert clock.now() == 2.0
