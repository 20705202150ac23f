"""Deadlines are kept to the instant, and those who are quick pay for no timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from batcher.futures import Call
from batcher.timeouts import PATIENCE, Expiry


class Timer:
    def __init__(self, due: float, run: Callable[[], object]) -> None:
        self.due, self.run, self.is_set = due, run, True

    def cancel(self) -> None:
        self.is_set = False


class Loop:
    """A loop whose time only `go_to` moves."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, list[Timer]()
        self.futures = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return self.futures.create_future()

    def call_at(self, due: float, run: Callable[..., object], *arguments: Any) -> Timer:
        self.timers.append(Timer(due, lambda: run(*arguments)))
        return self.timers[-1]

    def call_later(self, delay: float, run: Callable[..., object], *arguments: Any) -> Timer:
        return self.call_at(self.now + delay, run, *arguments)

    def go_to(self, now: float) -> None:
        while due := [timer for timer in self.waiting if timer.due <= now]:
            first = min(due, key=lambda timer: timer.due)
            self.now, first.is_set = first.due, False
            first.run()
        self.now = now

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if timer.is_set]


class Desk:
    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.expiry = Expiry(self.loop)
        self.expired: list[tuple[str, float]] = []

    def call(self, name: str, remaining: float) -> Call:
        call = Call(self.loop, 1)
        self.expiry.watch(
            call, remaining, lambda who: self.expired.append((who, self.loop.now)), name
        )
        return call

    def answer(self, call: Call) -> None:
        call.future.set_result([])
        self.expiry.ended(call)


@pytest.fixture
def desk() -> Any:
    made = Desk()
    yield made
    made.loop.futures.close()


@pytest.mark.parametrize("remaining", [0.001, PATIENCE, 1.5 * PATIENCE, 30.0])
def test_whoever_waits_expires_at_the_deadline(desk: Desk, remaining: float) -> None:
    desk.call("a", remaining)
    desk.loop.go_to(remaining - 1e-6)
    assert desk.expired == []
    desk.loop.go_to(remaining)
    assert desk.expired == [("a", pytest.approx(remaining))]


def test_they_expire_in_the_order_of_their_deadlines_and_not_of_their_start(desk: Desk) -> None:
    for name, remaining in (("late", 9.0), ("soon", 0.05), ("between", 2.0)):
        desk.call(name, remaining)
    desk.loop.go_to(10.0)
    assert [name for name, _ in desk.expired] == ["soon", "between", "late"]


@pytest.mark.parametrize("remaining", [PATIENCE / 2, 30.0])
@pytest.mark.parametrize("after", [0.0, 5.0])
def test_whoever_is_answered_never_expires(desk: Desk, remaining: float, after: float) -> None:
    call = desk.call("a", remaining)
    desk.loop.go_to(min(after, remaining / 2))
    desk.answer(call)
    desk.loop.go_to(60.0)
    assert desk.expired == []


def test_many_quick_calls_share_one_timer_and_leave_none(desk: Desk) -> None:
    calls = [desk.call(str(number), 30.0) for number in range(100)]
    assert len(desk.loop.waiting) == 1
    for call in reversed(calls):  # the oldest, last of all
        desk.answer(call)
    assert repr(desk.expiry) == "<Expiry of 0 calls>"
    desk.loop.go_to(PATIENCE)
    assert desk.loop.waiting == []  # nobody waits: nobody looks


def test_who_comes_while_another_is_watched_is_looked_at_in_their_own_time(desk: Desk) -> None:
    first = desk.call("first", 30.0)
    desk.loop.go_to(PATIENCE / 2)
    desk.call("second", 2 * PATIENCE)
    desk.answer(first)
    desk.loop.go_to(60.0)
    assert desk.expired == [("second", pytest.approx(2.5 * PATIENCE))]
