"""Claims about the drivers, against a server of a few lines on a free port."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from loadtests.drivers import arrivals, closedloop
from loadtests.drivers.openloop import referee
from loadtests.drivers.target import Target

ANSWER = b'HTTP/1.1 200 OK\r\nServer-Timing: batch;desc="size=2"\r\nContent-Length: 2\r\n\r\n[]'


class Stub(asyncio.Protocol):
    """Answers a request with ANSWER; "hang" never, "once" before it closes, "busy" with 429."""

    def __init__(self, open_now: set[asyncio.Transport]) -> None:
        self.open_now = open_now

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.open_now.add(transport)

    def connection_lost(self, exc) -> None:
        self.open_now.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"busy"):
            self.transport.write(ANSWER.replace(b"200 OK", b"429 Busy"))
        elif not data.endswith(b"hang"):
            self.transport.write(ANSWER)
        if data.endswith(b"once"):
            self.transport.close()


async def serve(started: Future[tuple[Target, Callable[[], None]]]) -> None:
    """Until the function is called that `started` is given beside the target."""
    loop, stop, open_now = asyncio.get_running_loop(), asyncio.Event(), set()
    server = await loop.create_server(lambda: Stub(open_now), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        started.set_result((Target("127.0.0.1", port), lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
        while open_now:
            transport = open_now.pop()
            transport.abort()
        await asyncio.sleep(0)  # One turn, in which the closings arrive.


@pytest.fixture
def target() -> Iterator[Target]:
    started: Future[tuple[Target, Callable[[], None]]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(serve(started)))
    thread.start()
    target, stop = started.result(10)
    yield target
    stop()
    thread.join(10)


def drive(target: Target, *bodies: bytes, grace: float = 1.0):
    requests = [target.post("/embed", body) for body in bodies]
    return referee(target, requests, arrivals.constant(100, 0.2), 0.2, grace=grace)


def test_every_arrival_is_sent_on_time_and_answered(target: Target):
    run = drive(target, b"fine")
    assert [outcome.status for outcome in run.outcomes] == ["200"] * 20
    assert all(outcome.sent >= outcome.scheduled for outcome in run.outcomes)
    assert run.summary().mean_batch == 2


def test_unanswered_request_holds_up_nobody_and_is_lost_at_the_end(target: Target):
    run = drive(target, b"hang", b"fine", grace=0.1)
    assert [outcome.status for outcome in run.outcomes] == ["lost", "200"] * 10
    assert run.outcomes[0].latency >= 0.3


def test_connections_that_the_server_closes_are_made_again(target: Target):
    run = drive(target, b"once")
    assert {outcome.status for outcome in run.outcomes} == {"200"}


def test_refusals_keep_their_status(target: Target):
    assert {outcome.status for outcome in drive(target, b"busy").outcomes} == {"429"}


def test_nobody_listening_is_an_outcome():
    run = drive(Target("127.0.0.1", 1), b"fine")
    assert {outcome.status for outcome in run.outcomes} == {"refused"}


def test_callers_send_again_when_answered_until_enough_is_sent(target: Target):
    request = target.post("/embed", b"fine")
    run = closedloop.drive(target, [request], callers=4, seconds=10, most=500, keep_bodies=True)
    assert len(run.outcomes) == 500
    assert {outcome.body for outcome in run.outcomes} == {b"[]"}


def test_callers_give_up_on_a_server_that_only_refuses(target: Target):
    with pytest.raises(RuntimeError, match="requests failed, first: 429"):
        closedloop.drive(target, [target.post("/embed", b"busy")], callers=4, seconds=10)
