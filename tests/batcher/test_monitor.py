"""How long a thread waits: until it is notified, or for a time that a machine can count to."""

from __future__ import annotations

import threading

import pytest

from batcher.clock import MonotonicClock
from batcher.monitor import Monitor
from tests.fakes import PATIENCE, join


@pytest.mark.parametrize("late", [0.0, -5.0, float("-inf")])
def test_a_wait_until_a_time_that_has_come_returns_at_once(late: float) -> None:
    clock = MonotonicClock()
    monitor = Monitor(clock, 1, lambda: False)
    with monitor.lock:
        monitor.wait_for_work(0, clock.now() + late)


@pytest.mark.parametrize("until", [1e12, float("inf")])
def test_a_wait_without_an_end_that_a_machine_could_count_to_waits_to_be_notified(
    until: float,
) -> None:
    monitor = Monitor(MonotonicClock(), 1, lambda: False)
    errors: list[BaseException] = []
    ready = threading.Event()

    def wait() -> None:
        try:
            with monitor.lock:
                ready.set()
                monitor.wait_for_work(0, until)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait, name="waiter")
    thread.start()
    assert ready.wait(PATIENCE)
    with monitor.lock:
        monitor.wake_all()
    join(thread)
    assert errors == []
