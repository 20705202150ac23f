"""RemoteClient and FrontendSession over a real socket pair; the test takes the batches itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import uvloop

from batcher.clock import Clock, MonotonicClock
from batcher.collector import Collector
from batcher.errors import (
    BatcherError,
    CallTooLarge,
    DeadlineExceeded,
    InvalidPayload,
    NotReady,
    Overloaded,
    RunnerFailed,
)
from batcher.limits import Limits
from batcher.remote import channel
from batcher.remote.client import RemoteClient
from batcher.remote.codec import FrameReader, encode
from batcher.remote.messages import CallFailed, Hello, Json, Message, Reply, Submit, snapshot_from
from batcher.remote.server import FrontendSession
from batcher.request import Batch
from batcher.runner import RunnerInfo
from tests.fakes import PATIENCE, FakeClock, payloads_of, run_async


class Site:
    """An engine without replicas' threads, and as many fronts as are asked for."""

    def __init__(self, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or MonotonicClock()
        self.collector = Collector(limits or Limits(share_equal=False), self.clock)
        self.collector.replica_up(0, RunnerInfo(pid=1))
        self.sessions: list[FrontendSession] = []
        self.lost = asyncio.Event()

    async def front(self) -> RemoteClient:
        client = RemoteClient(self.clock, 60.0, self.reply_of_frontend)
        await self.join(client)
        return client

    async def join(self, client: RemoteClient) -> None:
        ours, theirs = socket.socketpair()
        number = len(self.sessions)
        session = FrontendSession(
            self.collector, f"front-{number}", self.reply_of_engine, lambda _: self.lost.set()
        )
        self.sessions.append(session)
        await asyncio.gather(session.attach(ours), client.attach(theirs))

    async def reply_of_frontend(self, subject: str) -> Json:
        return [subject, "of a front"]

    async def reply_of_engine(self, subject: str) -> Json:
        return [subject, "of the engine"]

    async def until(self, **counts: int) -> None:
        """Whatever is on the wire gets through while the loop turns."""
        while any(  # noqa: ASYNC110  the loop turns, nobody waits
            getattr(self.collector.snapshot(), name) != n for name, n in counts.items()
        ):
            await asyncio.sleep(0)

    async def batch(self, size: int) -> Batch:
        await self.until(waiting=size)
        batch = self.collector.next_batch(0)
        assert batch is not None
        return batch

    async def close(self, *clients: RemoteClient) -> None:
        for end in (*clients, *self.sessions):
            await end.close()


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_async(test())

    run.__name__ = test.__name__
    return run


def sent(*messages: Message) -> bytes:
    return b"".join(map(encode, messages))


class Writes:
    """How often a channel writes, and what."""

    def __init__(self, end: Any) -> None:
        self._transport = end._channel._transport
        end._channel._transport = self
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@on_a_loop
async def test_a_call_travels_and_its_answers_come_back_with_their_batch() -> None:
    site = Site()
    client = await site.front()
    deadline = site.clock.now() + 9.0
    ids = np.array([1, 2, 3], np.int32)
    asking = asyncio.create_task(
        client.submit_all([ids, "b"], costs=[3, 1], deadline=deadline, priority=1, caller="me")
    )
    batch = await site.batch(2)
    np.testing.assert_array_equal(payloads_of(batch)[0], ids)
    assert payloads_of(batch)[1] == "b"
    for request, cost in zip(batch.requests, (3, 1), strict=True):
        assert (request.cost, request.deadline) == (cost, deadline)
        assert (request.priority, request.caller) == (1, "me")
    site.collector.settle(batch, np.eye(2, dtype=np.float32), seconds=0.5)
    one, two = await asking
    np.testing.assert_array_equal([one.value, two.value], np.eye(2))
    assert one.batch is two.batch
    assert (one.batch.size, one.batch.inference) == (2, 0.5)
    assert one.batch == site.collector.recent_batches()[0]
    assert await client.recent_batches() == site.collector.recent_batches()
    await site.close(client)


@on_a_loop
async def test_what_is_asked_in_one_tick_is_one_write_and_so_is_the_answer_to_a_batch() -> None:
    site = Site(clock=FakeClock())
    client = await site.front()
    ours, theirs = Writes(client), Writes(site.sessions[0])
    asking = [asyncio.create_task(client.submit(f"{n}")) for n in range(20)]
    batch = await site.batch(20)
    site.collector.settle(batch, [f"{n}!" for n in range(20)], seconds=0.1)
    assert await asyncio.gather(*asking) == [f"{n}!" for n in range(20)]
    assert len(ours.seen) == len(theirs.seen) == 1
    assert not site.sessions[0]._calls
    await site.close(client)


@on_a_loop
async def test_what_is_asked_in_a_long_tick_leaves_while_it_lasts() -> None:
    clock = FakeClock()
    site = Site(clock=clock)
    client = await site.front()
    ours = Writes(client)

    async def ask(number: int) -> Any:
        clock.advance(0.0004)  # to parse it
        return await client.submit(f"{number}")

    asking = [asyncio.create_task(ask(number)) for number in range(10)]
    batch = await site.batch(10)
    calls = [FrameReader().feed(encode(Hello()) + data)[1:] for data in ours.seen]
    assert [len(each) for each in calls] == [4, 4, 2]
    site.collector.settle(batch, [f"{n}!" for n in range(10)], seconds=0.1)
    assert await asyncio.gather(*asking) == [f"{n}!" for n in range(10)]
    await site.close(client)


@on_a_loop
async def test_a_refusal_comes_back_as_what_it_is() -> None:
    site = Site(Limits(max_queue_size=2))
    client = await site.front()
    waiting = asyncio.create_task(client.submit_all(["a", "b"]))
    await site.until(waiting=2)
    for more in (["c"], ["c", "d"]):
        with pytest.raises(Overloaded, match="2 requests wait and at most 2 may"):
            await client.submit_all(more)
    waiting.cancel()
    await site.until(accepted=2, cancelled=2)
    await site.close(client)


@on_a_loop
async def test_an_error_is_its_own_callers_and_takes_the_rest_of_that_call_along() -> None:
    site = Site()
    client = await site.front()
    both = asyncio.create_task(client.submit_all(["bad", "sibling"]))
    await asyncio.sleep(0)
    other = asyncio.create_task(client.submit("good"))
    batch = await site.batch(3)
    results = ["GOOD" if payload == "good" else ValueError("odd") for payload in payloads_of(batch)]
    site.collector.settle(batch, results, seconds=0.1)
    with pytest.raises(RunnerFailed, match="odd"):
        await both
    assert await other == "GOOD"
    await site.until(failed=2, ok=1, running=0)
    await site.close(client)


@on_a_loop
async def test_an_answer_that_cannot_travel_is_an_error_of_its_own_caller_only() -> None:
    site = Site()
    client = await site.front()
    asking = [asyncio.create_task(client.submit(text)) for text in "ab"]
    batch = await site.batch(2)
    site.collector.settle(batch, [object(), "B"], seconds=0.1)
    with pytest.raises(
        RunnerFailed, match=r"result cannot be returned: a value of type builtins\.object"
    ):
        await asking[0]
    assert await asking[1] == "B"
    with pytest.raises(InvalidPayload, match="input cannot be submitted: a value of type"):
        await client.submit(object())
    await site.close(client)


@on_a_loop
async def test_a_caller_who_goes_takes_his_requests_along() -> None:
    site = Site()
    client = await site.front()
    asking = asyncio.create_task(client.submit_all(["a", "b"]))
    await site.until(waiting=2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await site.until(cancelled=2, waiting=0)
    await site.close(client)


@on_a_loop
async def test_a_deadline_is_kept_though_the_engine_says_nothing() -> None:
    site = Site()
    client = await site.front()
    with pytest.raises(DeadlineExceeded):
        await client.submit("a", deadline=site.clock.now() + 0.02)
    await site.until(expired=1, waiting=0)
    await site.close(client)


@on_a_loop
async def test_a_front_that_dies_has_its_requests_cancelled_and_nobody_elses() -> None:
    site = Site()
    dying, living = await site.front(), await site.front()
    orphan = asyncio.create_task(dying.submit("orphan"))
    asking = asyncio.create_task(living.submit("a"))
    await site.until(waiting=2)
    assert dying._channel is not None
    dying._channel._abort()
    await site.lost.wait()
    with pytest.raises(NotReady):
        await orphan
    batch = await site.batch(1)
    site.collector.settle(batch, ["A"], seconds=0.1)
    assert await asking == "A"
    await site.until(cancelled=1, ok=1)
    await site.close(living)


@on_a_loop
async def test_an_engine_that_dies_is_a_503_for_all_in_flight_until_the_next_one_is_there() -> None:
    site = Site()
    client = await site.front()
    asking = [asyncio.create_task(client.submit(text)) for text in "ab"]
    await site.until(waiting=2)
    site.sessions[0]._channel._abort()  # type: ignore[union-attr]  # it is attached
    for each in asking:
        with pytest.raises(NotReady, match="engine died while") as gone:
            await each
        assert gone.value.retry_after > 0
    for attempt in (client.submit("c"), client.snapshot()):
        with pytest.raises(NotReady):
            await attempt
    await site.join(client)
    again = asyncio.create_task(client.submit("d"))
    site.collector.settle(await site.batch(1), ["D"], seconds=0.1)
    assert await again == "D"
    await site.close(client)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_was_sent_before_the_engine_was_there_is_answered(make_loop: Any) -> None:
    async def test() -> None:
        site = Site(Limits(max_queue_size=1))
        client = RemoteClient(site.clock, 60.0)
        ours, theirs = socket.socketpair()
        await client.attach(theirs)
        early = asyncio.create_task(client.submit_all(["a", "b"]))
        for _ in range(3):  # it is written at the end of the tick it is made in
            await asyncio.sleep(0)
        site.sessions.append(FrontendSession(site.collector, "front-0"))
        await site.sessions[0].attach(ours)
        with pytest.raises(CallTooLarge):
            await asyncio.wait_for(early, PATIENCE)
        await site.close(client)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(test())


@on_a_loop
async def test_one_who_was_never_attached_says_not_ready() -> None:
    client = RemoteClient(MonotonicClock(), 60.0)
    with pytest.raises(NotReady):
        await client.submit("a")
    assert await client.submit_all([]) == []


@on_a_loop
async def test_nonsense_is_refused_before_it_leaves() -> None:
    site = Site()
    client = await site.front()
    for wrong in ({"priority": 8}, {"costs": [1, 2]}, {"costs": []}, {"costs": [0]}):
        with pytest.raises(ValueError, match=r"must be|costs for"):
            await client.submit_all(["a"], **wrong)
    with pytest.raises(DeadlineExceeded):
        await client.submit_all(["a"], deadline=0.0)
    await site.close(client)
    assert site.collector.snapshot().accepted == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        sent(Hello(), CallFailed.of(1, NotReady("x", 1.0))),
        sent(Hello(), Submit(1, 9e9, 99, None, [1], ["a"])),
        sent(Hello(), Submit(1, 9e9, 3, None, [1], ["a", "b"])),
        sent(Hello(), Submit(1, 9e9, 3, b"\xff", [1], ["a"])),
        sent(Hello(), *[Submit(1, 9e9, 3, None, [1], ["a"])] * 2),
    ],
)
def test_a_front_that_sends_what_no_front_sends_is_cut_off_with_all_it_had(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        site = Site()
        ours, theirs = socket.socketpair()
        session = FrontendSession(site.collector, "front-0", on_lost=lambda _: site.lost.set())
        await session.attach(ours)
        theirs.sendall(data)
        await site.lost.wait()
        theirs.close()
        now = site.collector.snapshot()
        assert now.waiting == 0
        assert now.accepted == now.cancelled

    run_async(test())
    assert "front-0 sent a malformed message; closing its connection" in caplog.text


@on_a_loop
async def test_each_side_is_told_what_it_asks_for() -> None:
    site = Site()
    client = await site.front()
    assert await client.query("something") == ["something", "of the engine"]
    assert await site.sessions[0].query("tally", 10.0) == ["tally", "of a front"]
    await site.close(client)


@on_a_loop
async def test_a_snapshot_is_the_same_on_the_other_side() -> None:
    site = Site()
    client = await site.front()
    asking = asyncio.create_task(client.submit_all(["a", "b"]))
    site.collector.settle(await site.batch(2), ["A", "B"], seconds=0.1)
    await asking
    theirs = await client.snapshot()
    assert (theirs.accepted, theirs.ok, theirs.ready) == (2, 2, True)
    ours = site.collector.snapshot()
    assert snapshot_from(Reply.of(1, ours).value()) == ours
    await site.close(client)


@on_a_loop
async def test_who_does_not_answer_in_time_is_given_up() -> None:
    site = Site()
    never = asyncio.Event()

    async def hang(_subject: str) -> Json:
        await never.wait()

    client = RemoteClient(site.clock, 60.0, hang)
    await site.join(client)
    with pytest.raises(NotReady, match="front-0 does not answer"):
        await site.sessions[0].query("tally", 0.01)
    await site.close(client)


@on_a_loop
async def test_equal_inputs_of_two_fronts_share_a_row() -> None:
    site = Site(Limits())
    one, two = await site.front(), await site.front()
    asking = [asyncio.create_task(client.submit("same")) for client in (one, two)]
    await site.until(accepted=2)
    batch = site.collector.next_batch(0)
    assert batch is not None
    assert payloads_of(batch) == ["same"]
    site.collector.settle(batch, ["S"], seconds=0.1)
    assert await asyncio.gather(*asking) == ["S", "S"]
    await site.close(one, two)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_front_that_reads_no_more_does_not_keep_the_engine(
    make_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_CLOSE_TIMEOUT", 0.01)

    async def test() -> None:
        site = Site()
        ours, theirs = socket.socketpair()
        session = FrontendSession(site.collector, "front-0", on_lost=lambda _: site.lost.set())
        await session.attach(ours)
        assert session._channel is not None
        session._channel.send(Reply(1, b"x" * 10_000_000))  # no socket holds so much
        await asyncio.wait_for(session.close(), PATIENCE)
        assert site.lost.is_set()
        theirs.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(test())


@on_a_loop
async def test_an_error_of_the_models_own_kind_is_an_error_of_its_own_caller_only() -> None:
    class Odd(BatcherError):
        """No frame knows it."""

    site = Site()
    client = await site.front()
    asking = [asyncio.create_task(client.submit(text)) for text in "ab"]
    batch = await site.batch(2)
    site.collector.settle(batch, [Odd("its words"), "B"], seconds=0.1)
    with pytest.raises(RunnerFailed, match="its words"):
        await asyncio.wait_for(asking[0], PATIENCE)
    assert await asking[1] == "B"
    await site.close(client)
