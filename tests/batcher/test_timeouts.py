"""Timeouts come when they are due, and quick calls pay for no timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from batcher.client import PendingCall
from batcher.errors import DeadlineExceeded
from batcher.timeouts import SLOW_AFTER, Deadlines, TimeoutQueue
from tests.fakes import run_async


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


class LoopClock:
    def __init__(self, loop: Loop) -> None:
        self.now = loop.time


class Desk:
    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.deadlines = Deadlines(self.loop, LoopClock(self.loop))  # type: ignore[arg-type]  # all of a Clock that it uses
        self.expired: list[tuple[str, float]] = []

    def call(self, name: str, remaining: float) -> PendingCall:
        desk = self

        class Noted(PendingCall):
            def expire(self) -> None:
                super().expire()
                desk.expired.append((name, desk.loop.now))

        call = Noted(self.loop, 1, self.loop.now + remaining)
        self.deadlines.watch(call, self.loop.now)
        return call

    def answer(self, call: PendingCall) -> None:
        call.future.set_result([])
        self.deadlines.ended(call)


@pytest.fixture
def desk() -> Any:
    made = Desk()
    yield made
    made.loop.futures.close()


# Deadlines


@pytest.mark.parametrize("remaining", [0.001, SLOW_AFTER, 1.5 * SLOW_AFTER, 30.0])
def test_a_call_expires_at_its_deadline(desk: Desk, remaining: float) -> None:
    call = desk.call("a", remaining)
    desk.loop.go_to(remaining - 1e-6)
    assert desk.expired == []
    desk.loop.go_to(remaining)
    assert desk.expired == [("a", pytest.approx(remaining))]
    assert call.is_late
    assert isinstance(call.future.exception(), DeadlineExceeded)


def test_calls_expire_in_the_order_of_their_deadlines_and_not_of_their_start(desk: Desk) -> None:
    calls = [desk.call(*each) for each in (("late", 9.0), ("soon", 0.05), ("between", 2.0))]
    desk.loop.go_to(10.0)
    assert [name for name, _ in desk.expired] == ["soon", "between", "late"]
    assert all(isinstance(call.future.exception(), DeadlineExceeded) for call in calls)


@pytest.mark.parametrize("remaining", [SLOW_AFTER / 2, 30.0])
@pytest.mark.parametrize("after", [0.0, 5.0])
def test_an_answered_call_never_expires(desk: Desk, remaining: float, after: float) -> None:
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
    assert repr(desk.deadlines) == "<Deadlines of 0 calls>"
    desk.loop.go_to(SLOW_AFTER)
    assert desk.loop.waiting == []


def test_a_later_call_becomes_slow_in_its_own_time(desk: Desk) -> None:
    first = desk.call("first", 30.0)
    desk.loop.go_to(SLOW_AFTER / 2)
    second = desk.call("second", 2 * SLOW_AFTER)
    desk.answer(first)
    desk.loop.go_to(60.0)
    assert desk.expired == [("second", pytest.approx(2.5 * SLOW_AFTER))]
    assert second.future.exception() is not None


def test_an_outcome_after_the_deadline_changes_nothing(desk: Desk) -> None:
    call = desk.call("a", 0.05)
    desk.loop.go_to(1.0)
    call.settle(0, DeadlineExceeded("of the engine"))
    call.expire()
    assert "before the result was ready" in str(call.future.exception())


# TimeoutQueue


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=0.0011)  # a tick of uvloop's


class Queue:
    def __init__(self, loop: Any, seconds: float = 2.0) -> None:
        self.loop = loop
        self.expired: list[tuple[str, float]] = []
        self.queue: TimeoutQueue[str] = TimeoutQueue(seconds, self.expire, loop)

    def expire(self, item: str) -> None:
        self.expired.append((item, self.loop.now))


@pytest.fixture
def timeouts(desk: Desk) -> Queue:
    return Queue(desk.loop)


def test_each_item_expires_after_the_timeout_and_a_removed_one_never(timeouts: Queue) -> None:
    queue, loop = timeouts.queue, timeouts.loop
    queue.add("first")
    queue.add("removed")
    queue.remove("removed")
    queue.remove("never added")
    loop.go_to(1.0)
    queue.add("second")
    assert queue.all() == ["first", "second"]
    loop.go_to(1.99)
    assert timeouts.expired == []
    loop.go_to(9.0)
    assert timeouts.expired == [("first", about(2.0)), ("second", about(3.0))]
    assert len(queue) == 0


def test_one_timer_does_for_all_items_and_none_runs_for_an_empty_queue(timeouts: Queue) -> None:
    queue, loop = timeouts.queue, timeouts.loop
    for number in range(50):
        queue.add(str(number))
        loop.go_to(loop.now + 0.01)
    assert len(loop.waiting) == 1
    loop.go_to(2.2)
    assert len(timeouts.expired) == 20 + 1
    assert len(loop.waiting) == 1
    for item in queue.all():
        queue.remove(item)
    loop.go_to(9.0)
    assert loop.waiting == []
    assert len(timeouts.expired) == 20 + 1


def test_an_item_may_be_added_again_when_it_expires(timeouts: Queue) -> None:
    queue, loop = timeouts.queue, timeouts.loop
    queue._expire = lambda item: (timeouts.expire(item), queue.add(item))
    queue.add("again")
    loop.go_to(5.0)
    assert [when for _, when in timeouts.expired] == [about(2.0), about(4.0)]
    assert len(loop.waiting) == 1


def test_an_item_whose_expiry_raises_does_not_keep_the_others(timeouts: Queue) -> None:
    queue, loop = timeouts.queue, timeouts.loop

    def raise_once(item: str) -> None:
        timeouts.expire(item)
        if item == "bad":
            raise ValueError(item)

    queue._expire = raise_once
    queue.add("bad")
    queue.add("good")
    with pytest.raises(ValueError, match="bad"):
        loop.go_to(2.0)
    loop.go_to(3.0)
    assert [item for item, _ in timeouts.expired] == ["bad", "good"]


def test_the_oldest_item_is_given_once_it_has_been_there_for_long_enough(timeouts: Queue) -> None:
    queue, loop = timeouts.queue, timeouts.loop
    assert queue.oldest() is None
    queue.add("a")
    loop.go_to(0.5)
    queue.add("b")
    assert queue.oldest() == "a"
    assert queue.oldest(at_least=0.5) == "a"
    assert queue.oldest(at_least=0.6) is None
    queue.remove("a")
    assert queue.oldest() == "b"


def test_without_a_loop_the_running_one_is_used() -> None:
    async def main() -> None:
        expired = asyncio.Event()
        queue: TimeoutQueue[str] = TimeoutQueue(0.001, lambda _: expired.set())
        queue.add("a")
        await expired.wait()

    run_async(main())
