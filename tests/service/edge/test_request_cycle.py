"""What a request receives and what its response looks like on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from service.edge.request_cycle import _LARGE, CONTINUE, RequestCycle
from service.errors import Header

BODY = b"[1, 2]"
LENGTH = (b"content-length", b"%d" % len(BODY))
CLOSE = (b"connection", b"close")
START = b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:07 GMT\r\n"


@pytest.fixture(autouse=True)
def _seven_seconds_after_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 7.5)


class FakeWire:
    """A connection that never has to wait for its client. It is its own transport."""

    is_read_paused = is_write_paused = False

    def __init__(self) -> None:
        self.transport: Any = self
        self.writes: list[bytes] = []
        self.completed: list[bool] = []  # whether the connection stays open
        self.ended = 0

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None: ...

    async def drain(self) -> None:
        raise AssertionError("nothing is paused")

    def on_response_complete(self, keep_alive: bool) -> None:
        self.completed.append(keep_alive)

    def on_application_end(self, cycle: RequestCycle) -> None:
        self.ended += 1


def cycle_on(
    wire: FakeWire,
    method: str = "POST",
    version: str = "1.1",
    keep_alive: bool = True,
    expects_continue: bool = False,
) -> RequestCycle:
    scope = {"method": method, "http_version": version}
    return RequestCycle(wire, scope, keep_alive, expects_continue)


async def respond(
    cycle: RequestCycle,
    headers: Sequence[Header] = (),
    pieces: Sequence[bytes] = (BODY,),
    status: int = 200,
) -> None:
    await cycle.send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces[:-1]:
        await cycle.send({"type": "http.response.body", "body": piece, "more_body": True})
    await cycle.send({"type": "http.response.body", "body": pieces[-1]})


def response(headers: Sequence[Header], pieces: Sequence[bytes] = (BODY,), **how: Any) -> FakeWire:
    wire = FakeWire()
    asyncio.run(respond(cycle_on(wire, **how), headers, pieces))
    return wire


def test_head_and_body_leave_in_one_write() -> None:
    wire = response([LENGTH])
    assert wire.writes == [START + b"content-length: 6\r\n\r\n[1, 2]"]
    assert wire.completed == [True]


def test_a_large_body_is_not_copied_to_its_head() -> None:
    body = b"7" * (_LARGE + 1)
    wire = response([(b"content-length", b"%d" % len(body))], [body])
    assert [len(data) for data in wire.writes] == [len(wire.written) - len(body), len(body)]


def test_nothing_leaves_before_the_first_piece_of_the_body() -> None:
    async def test() -> None:
        wire = FakeWire()
        cycle = cycle_on(wire)
        await cycle.send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        assert (wire.writes, cycle.response_started) == ([], False)
        await cycle.send({"type": "http.response.body", "body": BODY, "more_body": False})
        assert cycle.response_started

    asyncio.run(test())


def test_a_response_of_unknown_length_is_chunked() -> None:
    wire = response([], [b"", b"abc", b"0123456789abcdef", b""])
    assert wire.written == (
        START + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )
    assert wire.completed == [True]


def test_to_http_1_0_it_ends_with_the_connection() -> None:
    wire = response([], [b"abc", b"def"], version="1.0", keep_alive=False)
    assert wire.written == START + b"connection: close\r\n\r\nabcdef"
    assert wire.completed == [False]


@pytest.mark.parametrize("headers", [[LENGTH], []])
def test_a_response_to_head_has_no_body(headers: list[Header]) -> None:
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    assert response(headers, method="HEAD").written == START + lines + b"\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_gets_none(status: int) -> None:
    wire = FakeWire()
    asyncio.run(respond(cycle_on(wire), [], [b""], status))
    assert wire.written.endswith(b" GMT\r\n\r\n")
    assert b"chunked" not in wire.written


@pytest.mark.parametrize(
    ("headers", "keep_alive", "stays"),
    [([], True, True), ([], False, False), ([CLOSE], True, False), ([CLOSE], False, False)],
)
def test_that_the_connection_closes_is_said_once(
    headers: list[Header], keep_alive: bool, stays: bool
) -> None:
    wire = response([LENGTH, *headers], keep_alive=keep_alive)
    assert wire.written.count(b"connection: close\r\n") == (not stays)
    assert wire.completed == [stays]


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
def test_a_header_that_would_be_two_is_never_written(value: bytes) -> None:
    wire = FakeWire()
    with pytest.raises(RuntimeError, match="end of a line"):
        asyncio.run(respond(cycle_on(wire), [LENGTH, (b"x", value)]))
    assert wire.written == b""


@pytest.mark.parametrize("pieces", [[b"12345"], [b"1234567"], [b"123", b"12"], [b"1234", b"1234"]])
def test_a_body_of_another_length_than_announced_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(RuntimeError, match="content-length"):
        asyncio.run(respond(cycle_on(FakeWire()), [LENGTH], pieces))


BODY_MESSAGE = {"type": "http.response.body", "body": BODY}
START_MESSAGE = {"type": "http.response.start", "status": 200, "headers": [LENGTH]}


@pytest.mark.parametrize(
    "messages",
    [
        [BODY_MESSAGE],
        [START_MESSAGE, START_MESSAGE],
        [START_MESSAGE, BODY_MESSAGE, BODY_MESSAGE],
        [START_MESSAGE, BODY_MESSAGE, START_MESSAGE],
        [{"type": "http.response.whole"}],
    ],
)
def test_a_message_out_of_turn_is_an_error(messages: list[dict[str, Any]]) -> None:
    async def send_all() -> None:
        cycle = cycle_on(FakeWire())
        for message in messages:
            await cycle.send(message)

    with pytest.raises(RuntimeError, match="out of turn"):
        asyncio.run(send_all())


def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    async def test() -> None:
        wire = FakeWire()
        cycle = cycle_on(wire)
        cycle.disconnect()
        await respond(cycle, [LENGTH])
        assert (wire.writes, wire.completed) == ([], [])

    asyncio.run(test())


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"b", b"c"], [b"", b"abc", b""], []])
def test_a_body_that_has_arrived_is_received_at_once(pieces: list[bytes]) -> None:
    cycle = cycle_on(FakeWire())
    for piece in pieces:
        cycle.add_body(piece, more_body=True)
    cycle.add_body(b"", more_body=False)
    message = asyncio.run(cycle.receive())
    assert message == {"type": "http.request", "body": b"".join(pieces), "more_body": False}
    assert type(message["body"]) is bytes


async def waits_then(receiving: Callable[[], Awaitable[Any]], event: Callable[[], None]) -> Any:
    waiting = asyncio.ensure_future(receiving())
    await asyncio.sleep(0)
    assert not waiting.done()
    event()
    return await waiting


def test_a_body_is_received_as_it_arrives() -> None:
    async def test() -> None:
        cycle = cycle_on(FakeWire())
        first = await waits_then(cycle.receive, lambda: cycle.add_body(b"a", True))
        assert first == {"type": "http.request", "body": b"a", "more_body": True}
        last = await waits_then(cycle.receive, lambda: cycle.add_body(b"", False))
        assert last == {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(test())


def test_of_a_body_that_nobody_took_nothing_is_kept() -> None:
    async def test() -> None:
        cycle = cycle_on(FakeWire())
        cycle.add_body(b"abc", more_body=True)
        await respond(cycle, [LENGTH])
        cycle.add_body(b"def", more_body=True)
        assert (cycle.body, cycle.more_body) == (b"", True)
        cycle.add_body(b"", more_body=False)
        assert not cycle.more_body
        assert await cycle.receive() == {"type": "http.disconnect"}

    asyncio.run(test())


def test_after_the_body_all_who_receive_wait_for_the_end() -> None:
    async def test() -> None:
        for event in ("the client goes", "the response is complete"):
            cycle = cycle_on(FakeWire())
            cycle.add_body(b"", more_body=False)
            await cycle.receive()
            waiting = [asyncio.ensure_future(cycle.receive()) for _ in range(2)]
            await asyncio.sleep(0)
            if event == "the client goes":
                cycle.disconnect()
            else:
                await respond(cycle, [LENGTH])
            assert await asyncio.gather(*waiting) == [{"type": "http.disconnect"}] * 2
            assert await cycle.receive() == {"type": "http.disconnect"}

    asyncio.run(test())


def test_a_client_that_expects_continue_gets_it_once_the_body_is_asked_for() -> None:
    async def test() -> None:
        wire = FakeWire()
        cycle = cycle_on(wire, expects_continue=True)
        assert wire.writes == []
        await waits_then(cycle.receive, lambda: cycle.add_body(b"", False))
        assert wire.writes == [CONTINUE]

    asyncio.run(test())


def test_a_client_that_expects_continue_may_be_answered_without_it() -> None:
    async def test() -> None:
        wire = FakeWire()
        cycle = cycle_on(wire, expects_continue=True)
        await respond(cycle, [LENGTH])
        await cycle.receive()
        assert CONTINUE not in wire.written

    asyncio.run(test())


@pytest.mark.parametrize("error", [ValueError("of the application"), asyncio.CancelledError()])
def test_an_application_that_fails_is_logged_and_ends(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(*_: object) -> None:
        raise error

    wire = FakeWire()

    async def test() -> None:
        await cycle_on(wire).start(app, asyncio.get_running_loop())

    asyncio.run(test())
    assert wire.ended == 1
    assert [record.message for record in caplog.records] == [
        "a request failed outside its endpoint"
    ]
