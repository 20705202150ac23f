"""LocalClient over a collector whose batches the test takes itself."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from batcher.client import Call, LocalClient
from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.errors import CallTooLarge, DeadlineExceeded, NotReady, Overloaded, RunnerFailed
from batcher.limits import Limits
from batcher.request import Batch
from batcher.runner import RunnerInfo
from batcher.timeouts import SLOW_AFTER
from tests.fakes import payloads_of, run_async


class Desk:
    def __init__(self, limits: Limits | None = None, request_timeout: float = 60.0) -> None:
        self.clock = MonotonicClock()
        self.collector = Collector(limits or Limits(), self.clock)
        self.collector.replica_up(0, RunnerInfo())
        self.client = LocalClient(self.collector, asyncio.get_running_loop(), request_timeout)

    async def batch(self) -> Batch:
        """What has been submitted so far, once everyone who is ready has run."""
        await asyncio.sleep(0)
        batch = self.collector.next_batch(0)
        assert batch is not None
        return batch

    def counts(self) -> dict[str, int]:
        snapshot = self.collector.snapshot()
        names = ("accepted", "ok", "failed", "expired", "cancelled", "waiting", "running")
        return {name: count for name in names if (count := getattr(snapshot, name))}


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_async(test())

    run.__name__ = test.__name__
    return run


@on_a_loop
async def test_submit_gives_the_value_and_submit_all_the_answers() -> None:
    desk = Desk()
    one = asyncio.create_task(desk.client.submit("a"))
    two = asyncio.create_task(desk.client.submit_all(["b", "c"]))
    batch = await desk.batch()
    assert payloads_of(batch) == ["a", "b", "c"]
    desk.collector.settle(batch, ["A", "B", "C"], seconds=0.5)
    assert await one == "A"
    answers = await two
    assert [answer.value for answer in answers] == ["B", "C"]
    assert all(answer.batch.size == 3 and answer.batch.inference == 0.5 for answer in answers)
    assert all(answer.queue_wait >= 0.0 for answer in answers)


@on_a_loop
async def test_nothing_in_is_nothing_out() -> None:
    desk = Desk()
    assert await desk.client.submit_all([]) == []
    assert desk.counts() == {}


@on_a_loop
async def test_cost_deadline_and_priority_travel_with_the_request() -> None:
    desk = Desk(request_timeout=60.0)
    deadline = desk.clock.now() + 5.0
    asking = asyncio.create_task(
        desk.client.submit_all(["a", "b"], costs=[3, 9], deadline=deadline, priority=1)
    )
    batch = await desk.batch()
    assert [(each.cost, each.deadline, each.priority) for each in batch.requests] == [
        (3, deadline, 1),
        (9, deadline, 1),
    ]
    desk.collector.settle(batch, "ab")
    await asking


@on_a_loop
async def test_a_request_without_a_deadline_gets_the_usual_one() -> None:
    desk = Desk(request_timeout=60.0)
    asking = asyncio.create_task(desk.client.submit("a"))
    batch = await desk.batch()
    (request,) = batch.requests
    assert request.deadline - request.arrival == pytest.approx(60.0)
    assert (request.cost, request.priority) == (1, 3)
    desk.collector.settle(batch, "a")
    await asking


@pytest.mark.parametrize("cost", [True, 2.0, 0])
def test_a_cost_is_a_whole_number_and_nothing_like_one(cost: Any) -> None:
    """For every client: some other kinds of number do not cross to an engine elsewhere."""
    with pytest.raises(ValueError, match="a cost must be a whole number"):
        Call(["a"], [cost]).checked(0.0, 1.0)
    with pytest.raises(ValueError, match="priority must be"):
        Call(["a"], [1], priority=True).checked(0.0, 1.0)


@on_a_loop
async def test_costs_that_do_not_match_are_refused_before_anything_is_queued() -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="1 costs for 2 payloads"):
        await desk.client.submit_all(["a", "b"], costs=[1])
    assert desk.counts() == {}


@on_a_loop
async def test_a_deadline_that_has_passed_is_not_submitted() -> None:
    desk = Desk()
    with pytest.raises(DeadlineExceeded):
        await desk.client.submit("a", deadline=desk.clock.now())
    assert desk.counts() == {}


@on_a_loop
async def test_a_refusal_reaches_the_caller_and_queues_nothing() -> None:
    desk = Desk(Limits(max_queue_size=2))
    with pytest.raises(CallTooLarge):
        await desk.client.submit_all(["a", "b", "c"])
    desk.collector.replica_waits(0, 2.0, "signal 9", is_broken=True)
    with pytest.raises(NotReady):
        await desk.client.submit("a")
    assert desk.counts() == {}


@on_a_loop
async def test_a_caller_that_is_cancelled_takes_its_requests_with_it() -> None:
    desk = Desk()
    goes = asyncio.create_task(desk.client.submit_all(["a", "b"]))
    stays = asyncio.create_task(desk.client.submit("c"))
    await asyncio.sleep(0)
    goes.cancel()
    with pytest.raises(asyncio.CancelledError):
        await goes
    batch = await desk.batch()
    assert payloads_of(batch) == ["c"]
    desk.collector.settle(batch, ["C"])
    assert await stays == "C"
    assert desk.counts() == {"accepted": 3, "ok": 1, "cancelled": 2}


@on_a_loop
async def test_a_caller_that_is_cancelled_while_it_runs_costs_its_mates_nothing() -> None:
    desk = Desk()
    goes = asyncio.create_task(desk.client.submit("a"))
    stays = asyncio.create_task(desk.client.submit("b"))
    batch = await desk.batch()
    goes.cancel()
    with pytest.raises(asyncio.CancelledError):
        await goes
    desk.collector.settle(batch, ["A", "B"])
    assert await stays == "B"
    assert desk.counts() == {"accepted": 2, "ok": 1, "cancelled": 1}


@on_a_loop
async def test_one_failure_fails_the_call_and_withdraws_its_siblings() -> None:
    desk = Desk(Limits(max_batch_size=1))
    asking = asyncio.create_task(desk.client.submit_all(["a", "b", "c"]))
    desk.collector.settle(await desk.batch(), ["A"])
    desk.collector.fail(await desk.batch(), RunnerFailed("bad input"))
    with pytest.raises(RunnerFailed, match="bad input"):
        await asking
    assert desk.counts() == {"accepted": 3, "ok": 1, "failed": 1, "cancelled": 1}


@on_a_loop
async def test_a_deadline_that_passes_in_the_queue_answers_without_waiting_for_a_batch() -> None:
    desk = Desk()
    with pytest.raises(DeadlineExceeded, match="before the result was ready"):
        await desk.client.submit_all(["a", "b"], deadline=desk.clock.now() + 0.1)
    assert desk.counts() == {"accepted": 2, "expired": 2}


@on_a_loop
async def test_a_deadline_that_passes_while_it_runs_answers_without_waiting_for_the_run() -> None:
    desk = Desk(request_timeout=0.1)
    asking = asyncio.create_task(desk.client.submit("a"))
    batch = await desk.batch()
    with pytest.raises(DeadlineExceeded):
        await asking
    desk.collector.settle(batch, ["too late"])
    assert desk.counts() == {"accepted": 1, "expired": 1}


@on_a_loop
async def test_answers_leave_no_timer_behind_but_one_look_soon() -> None:
    desk = Desk()
    loop = asyncio.get_running_loop()
    for _ in range(10):
        asking = asyncio.create_task(desk.client.submit("a"))
        desk.collector.settle(await desk.batch(), ["A"])
        await asking
    timers = loop._scheduled  # type: ignore[attr-defined]
    left = [timer.when() - loop.time() for timer in timers if not timer.cancelled()]
    assert len(left) == 2  # one is the test's own deadline
    assert min(left) <= SLOW_AFTER


@on_a_loop
async def test_the_snapshot_is_the_collectors() -> None:
    desk = Desk()
    assert (await desk.client.snapshot()).ready


# Rings of objects, which only a garbage collection would clear: it holds up everybody


@pytest.mark.parametrize("ends", ["refused", "expired", "failed"])
def test_a_request_that_ends_badly_leaves_no_ring_of_objects(ends: str) -> None:
    async def test() -> int:
        desk = Desk(Limits(max_queue_size=1))
        waits = asyncio.ensure_future(desk.client.submit("first")) if ends == "refused" else None
        await asyncio.sleep(0)
        for turn in range(4):
            if turn == 1:
                gc.collect()  # what the first of all leaves for the others to use
            deadline = desk.clock.now() + 0.001 if ends == "expired" else None
            one = asyncio.ensure_future(desk.client.submit(f"text {turn}", deadline=deadline))
            if ends == "failed":
                desk.collector.fail(await desk.batch(), RunnerFailed("no"))
            with pytest.raises((Overloaded, DeadlineExceeded, RunnerFailed)):
                await one
            del one
        found = gc.collect()
        if waits is not None:
            waits.cancel()
        return found

    gc.disable()
    try:
        assert run_async(test()) < 10
    finally:
        gc.enable()
