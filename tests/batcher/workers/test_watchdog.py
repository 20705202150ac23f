"""Late is late, in time is in time, and nobody is woken to find that out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from batcher.workers.watchdog import Watchdog
from tests.fakes import FakeClock, Signal


class Kennel:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.late = Signal("nobody called out")
        self.calls = 0
        self.dog = Watchdog("worker-0-watchdog", self.clock, self._on_late)
        self.dog.start()

    def _on_late(self) -> None:
        self.calls += 1
        self.late.give()


@pytest.fixture
def kennel() -> Iterator[Kennel]:
    kennel = Kennel()
    yield kennel
    kennel.dog.stop()
    assert not any(thread.name == "worker-0-watchdog" for thread in threading.enumerate())


def test_what_is_not_done_in_time_is_called_out_once(kennel: Kennel) -> None:
    kennel.dog.arm(5.0)
    kennel.clock.advance(5.0)
    kennel.late.wait()
    kennel.clock.advance(100.0)
    kennel.dog.stop()
    assert kennel.calls == 1


def test_what_is_done_in_time_is_not(kennel: Kennel) -> None:
    kennel.dog.arm(5.0)
    kennel.dog.disarm()
    kennel.clock.advance(100.0)
    kennel.dog.stop()
    assert kennel.calls == 0


def test_it_looks_at_the_last_deadline_whichever_came_before(kennel: Kennel) -> None:
    kennel.dog.arm(5.0)
    kennel.dog.disarm()
    kennel.clock.advance(4.0)
    kennel.dog.arm(5.0)
    kennel.clock.advance(4.0)  # at 8: past the first one, before the second
    assert kennel.calls == 0
    kennel.clock.advance(1.0)
    kennel.late.wait()
    kennel.dog.arm(50.0)
    kennel.dog.arm(1.0)  # sooner than the one it sleeps for
    kennel.clock.advance(1.0)
    kennel.late.wait()
    assert kennel.calls == 2


def test_whoever_was_stopped_with_the_watchdog_has_a_moment_to_come_back(kennel: Kennel) -> None:
    kennel.dog.arm(5.0)
    kennel.clock.until_blocked(5.0)
    kennel.clock.advance(100.0)
    kennel.clock.until_blocked(100.5)
    assert kennel.calls == 0
    kennel.clock.advance(0.5)
    kennel.late.wait()


def test_one_that_was_never_started_can_be_stopped() -> None:
    Watchdog("worker-0-watchdog", FakeClock(), lambda: None).stop()
