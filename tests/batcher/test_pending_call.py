"""Outcomes onto an event loop: one wake-up for many, and nobody stranded by another's going."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from batcher.client import LoopSink, PendingCall, hand_out
from batcher.errors import RunnerFailed
from batcher.request import Answer, Outcome, Request
from tests.fakes import join, report, request, run_async

REPORT = report()


def answer(value: Any) -> Answer:
    return Answer(value, 0.0, REPORT)


def settled(call: PendingCall, index: int, outcome: Outcome) -> tuple[Request, Outcome]:
    return request(reply_to=(call, index)), outcome


async def deliver(sink: LoopSink, *outcomes: tuple[Request, Outcome]) -> None:
    """From another thread, as a batching thread does; returns when the loop has handed them out."""
    thread = threading.Thread(target=sink.deliver, args=(outcomes,), name="delivering")
    thread.start()
    join(thread)
    handed_out = asyncio.Event()
    asyncio.get_running_loop().call_soon(handed_out.set)
    await handed_out.wait()


def test_a_call_has_its_answers_in_its_own_order_whenever_they_come() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        call, sink = PendingCall(loop, 3, 60.0), LoopSink(loop, hand_out)
        await deliver(sink, settled(call, 2, answer("c")), settled(call, 0, answer("a")))
        assert not call.future.done()
        await deliver(sink, settled(call, 1, answer("b")))
        assert [each.value for each in call.future.result()] == ["a", "b", "c"]

    run_async(main())


def test_the_first_error_is_the_call_s_and_later_outcomes_change_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        call, sink = PendingCall(loop, 3, 60.0), LoopSink(loop, hand_out)
        first = RunnerFailed("first")
        await deliver(
            sink,
            settled(call, 0, answer("a")),
            settled(call, 1, first),
            settled(call, 2, RunnerFailed("second")),
        )
        assert call.future.exception() is first

    run_async(main())


def test_a_cancelled_call_does_not_strand_the_rest_of_its_batch() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before, gone, after, sink = (
            PendingCall(loop, 1, 60.0),
            PendingCall(loop, 1, 60.0),
            PendingCall(loop, 1, 60.0),
            LoopSink(loop, hand_out),
        )
        gone.future.cancel()
        await deliver(sink, *(settled(call, 0, answer("x")) for call in (before, gone, after)))
        assert [call.future.done() for call in (before, after)] == [True, True]
        assert gone.future.cancelled()

    run_async(main())


def test_a_batch_wakes_its_loop_once_however_many_it_answers() -> None:
    class CountingLoop:
        wake_ups = 0

        def call_soon_threadsafe(self, callback: Callable[..., None], *args: Any) -> None:
            self.wake_ups += 1
            callback(*args)

    async def main() -> None:
        counting = CountingLoop()
        calls = [PendingCall(asyncio.get_running_loop(), 1, 60.0) for _ in range(64)]
        sink = LoopSink(counting, hand_out)  # type: ignore[arg-type]  # the one method that it uses
        sink.deliver([settled(call, 0, answer("x")) for call in calls])
        assert counting.wake_ups == 1
        assert all(call.future.done() for call in calls)

    run_async(main())


def test_outcomes_for_a_loop_that_has_closed_are_dropped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()
    call, sink = PendingCall(loop, 1, 60.0), LoopSink(loop, hand_out)
    loop.close()
    with caplog.at_level(logging.WARNING):
        sink.deliver([settled(call, 0, answer("x"))])
    assert "dropping 1 results: the event loop of their callers has closed" in caplog.text
