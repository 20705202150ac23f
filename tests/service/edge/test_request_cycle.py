"""The short way says to the byte what uvicorn's own way says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.edge.request_cycle import _LARGE, Arrival, Cycle
from service.errors import Header
from service.http.exchange import WHOLE

BODY = b"[1, 2]"
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
CLOSES = (b"connection", b"close")


class Wire:
    """A transport, and a flow that never pauses."""

    write_paused = False
    closed = False

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def resume_reading(self) -> None:
        """It was never paused."""


def cycle_on(wire: Wire, keep_alive: bool = True, method: str = "POST") -> Cycle:
    connection: Any = SimpleNamespace(
        outlet=wire,
        transport=wire,
        flow=wire,
        logger=None,
        server_state=SimpleNamespace(default_headers=[(b"date", b"today")]),
        on_response_complete=lambda: None,
        tasks=set(),
        default_lines=lambda headers: b"".join(b"%s: %s\r\n" % header for header in headers),
    )
    return Cycle(connection, {"method": method}, keep_alive)


def said(headers: list[Header], body: bytes, in_one: bool, **options: Any) -> tuple[bytes, bool]:
    """What is written, and whether the connection is closed after it."""
    wire = Wire()
    cycle = cycle_on(wire, **options)

    async def answer() -> None:
        start: Any = {"status": 200, "headers": headers}
        if in_one:
            await cycle.send({**start, "type": WHOLE, "body": body})
        else:
            await cycle.send({**start, "type": "http.response.start"})
            await cycle.send({"type": "http.response.body", "body": body})

    asyncio.run(answer())
    assert cycle.response_complete
    return wire.written, wire.closed


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("headers", [HEADERS, [*HEADERS, CLOSES]])
def test_both_ways_write_the_same(headers: list[Header], keep_alive: bool, method: str) -> None:
    options = {"keep_alive": keep_alive, "method": method}
    assert said(headers, BODY, True, **options) == said(headers, BODY, False, **options)


def test_a_large_body_is_whole_too() -> None:
    body = b"7" * (_LARGE + 1)
    headers = [(b"content-length", b"%d" % len(body))]
    assert said(headers, body, True) == said(headers, body, False)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
def test_a_header_that_would_be_two_is_never_written(value: bytes) -> None:
    wire = Wire()
    message = {"type": WHOLE, "status": 200, "headers": [(b"x", value)], "body": b""}
    with pytest.raises(RuntimeError, match="end of a line"):
        asyncio.run(cycle_on(wire).send(message))
    assert wire.written == b""


def test_an_answer_after_the_answer_is_an_error() -> None:
    cycle = cycle_on(Wire())
    message = {"type": WHOLE, "status": 200, "headers": HEADERS, "body": BODY}

    async def twice() -> None:
        await cycle.send(message)
        await cycle.send(message)

    with pytest.raises(RuntimeError, match="already completed"):
        asyncio.run(twice())


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"b", b"c"], [b"", b"abc", b""]])
def test_a_body_is_the_sum_of_its_pieces(pieces: list[bytes]) -> None:
    cycle = cycle_on(Wire())
    for piece in pieces:
        cycle.take(piece)
    cycle.more_body = False
    message: Any = asyncio.run(cycle.receive())
    assert message == {"type": "http.request", "body": b"abc", "more_body": False}


def test_who_waits_for_more_of_a_body_is_woken_by_it() -> None:
    async def test() -> None:
        arrival = Arrival()
        waiting = asyncio.create_task(arrival.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        arrival.set()
        arrival.set()  # another piece, before the first was looked at
        await waiting
        await arrival.wait()  # what has come is there until it is cleared
        arrival.clear()
        waiting = asyncio.create_task(arrival.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        arrival.set()  # nobody waits any more

    asyncio.run(test())
