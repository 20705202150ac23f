"""The one real clock, and the fake one that the other tests stand on."""

from __future__ import annotations

import threading
import time

import pytest

from batcher.clock import MonotonicClock
from tests.fakes import FakeClock, OutOfEvents, VirtualClock, join


def test_the_clock_is_the_monotonic_one() -> None:
    before = time.monotonic()
    now = MonotonicClock().now()
    assert before <= now <= time.monotonic()


def test_a_fake_wait_ends_when_the_clock_reaches_its_deadline_and_not_before() -> None:
    clock = FakeClock()
    condition = clock.condition(threading.Lock())
    ended: list[float] = []

    def wait() -> None:
        with condition:
            while clock.now() < 3.0:
                condition.wait(3.0 - clock.now())
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
    clock = VirtualClock()
    condition = clock.condition(threading.Lock())
    seen: list[tuple[str, float]] = []
    for name, time_ in (("late", 2.0), ("one", 1.0), ("two", 1.0)):
        clock.at(time_, lambda name=name: seen.append((name, clock.now())))
    with condition:
        condition.wait(1.5 - clock.now())
        assert seen == [("one", 1.0), ("two", 1.0)]
        condition.wait(1.5 - clock.now())
        assert (clock.now(), len(seen)) == (1.5, 2)
        condition.wait()
        assert seen[2:] == [("late", 2.0)]
        with pytest.raises(OutOfEvents):
            condition.wait()


def test_virtual_time_stops_at_the_horizon() -> None:
    clock = VirtualClock(horizon=2.0)
    condition = clock.condition(threading.Lock())
    with condition, pytest.raises(OutOfEvents):
        condition.wait(3.0 - clock.now())
    assert clock.now() == 2.0
