"""Real sockets: what a client can do wrong, and what becomes of it and of all others."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest

from batcher.clock import MonotonicClock
from service.api import openapi as docs
from service.app import PROTOCOLS
from service.edge.connections import ConnectionTimeouts
from service.edge.parser import MAX_HEAD, MAX_HEADERS, MAX_URL
from service.http.body import LargeBodies
from tests.service.conftest import is_tei_error
from tests.service.loopback import (
    CHUNKED,
    POST,
    Client,
    HeldClient,
    Reply,
    Site,
    post,
    run,
    serving,
)

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
SOON = 0.05  # seconds: a deadline that is to pass


# What is no HTTP, or two servers might read in two ways

SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
MALFORMED = {
    "length and chunks": POST.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + SMUGGLED,
    "chunks twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and not": CHUNKED[:-2] + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "not chunks": CHUNKED.replace(b"chunked", b"identity") + SMUGGLED,
    "nearly chunks": CHUNKED.replace(b"chunked", b"xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "more than chunks": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunks in 1.0": CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n" + SMUGGLED,
    "space before colon": CHUNKED.replace(b"Encoding:", b"Encoding :") + b"0\r\n\r\n" + SMUGGLED,
    "two lengths": post(b"{}", b"Content-Length: 2") + SMUGGLED,
    "a list of lengths": POST.replace(b"15", b"15, 15") + SMUGGLED,
    "negative length": POST.replace(b"15", b"-15") + SMUGGLED,
    "length with a sign": POST.replace(b"15", b"+15") + SMUGGLED,
    "length that overflows": POST.replace(b"15", b"9" * 30) + SMUGGLED,
    "chunk that overflows": CHUNKED + b"10000000000000002\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "negative chunk": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "hexadecimal chunk": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "chunk ended by LF": CHUNKED + b"2\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "chunk data ended by LF": CHUNKED + b"2\r\n{}\n0\r\n\r\n" + SMUGGLED,
    "chunk longer than said": CHUNKED + b"2\r\n{}}}0\r\n\r\n" + SMUGGLED,
    "LF in a chunk extension": CHUNKED + b"2;a\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "NUL in a chunk extension": CHUNKED + b"2;\0\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "bare LF": GET.replace(b"\r\n", b"\n") + b"\n",
    "bare CR": GET + b"X: a\rY: b\r\n\r\n",
    "obsolete folding": GET + b"X: a\r\n b\r\n\r\n",
    "NUL in a header": GET + b"X: a\0b\r\n\r\n",
    "NUL in a name": GET + b"X\0: a\r\n\r\n",
    "no colon": GET + b"abc\r\n\r\n",
    "HTTP/1.9": GET.replace(b"1.1", b"1.9") + b"\r\n",
    "HTTP/2.0": GET.replace(b"1.1", b"2.0") + b"\r\n",
    "HTTP/0.9": b"GET /health/live\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "another method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "a host that is none": b"GET /health/live HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "two keys": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "a URL that is none": b"GET health HTTP/1.1\r\nHost: a\r\n\r\n",
    "a URL without a path": b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tunnel": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_gets_one_answer_and_the_connection_is_closed(name: str) -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(MALFORMED[name])
            reply = await client.reply()
            assert await client.rest() == b""  # nothing that was smuggled is answered
            assert reply.status == 400
            assert reply.headers["connection"] == "close"
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-should-retry"] == "false"
            assert is_tei_error(reply.json())
            assert reply.json()["request_id"] == reply.headers["x-request-id"]
            assert reply.json()["code"] == "malformed_http"
            assert await site.is_well()
            # One count: of the route, where the fault is in the body.
            counts = site.front.tally.counts()
            assert sum(n for (_, outcome), n in counts.items() if outcome == "invalid") == 1
            assert not [outcome for _, outcome in counts if outcome == "cancelled"]

    run(test())


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_in_pieces_it_is_refused_all_the_same(cut: int) -> None:
    async def test() -> None:
        async with serving() as site:
            for name in ("two hosts", "chunk longer than said", "length and chunks"):
                data = MALFORMED[name]
                client = await site.connect()
                for start in range(0, len(data), cut):
                    client.send(data[start : start + cut])
                    await client.writer.drain()
                    await asyncio.sleep(0)
                assert (await client.reply()).status == 400
                assert await client.rest() == b""

    run(test())


def test_it_makes_no_noise_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        async with serving() as site:
            for data in (MALFORMED["TLS"], MALFORMED["two lengths"], UPGRADE):
                await site.ask(data)
            for _ in range(3):  # a port scan
                (await site.connect()).reset()

    run(test())
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert said + [record for record in caplog.records if "connection" in record.name] == []


def test_forms_that_are_rare_and_right_are_served() -> None:
    async def test() -> None:
        async with serving() as site:
            live = b"GET http://b/health/live?x=%20 HTTP/1.1\r\nHost: a\r\n\r\n"
            assert (await site.ask(live)).status == 200
            assert (await site.ask(b"GET /health/live HTTP/1.0\r\n\r\n")).status == 200
            assert (await site.ask(b"\r\n" + POST)).status == 200
            client = await site.connect()
            client.send(b"HEAD /health/live HTTP/1.1\r\nHost: a\r\n\r\n" + POST)
            assert b"content-length" in await client.reader.readuntil(b"\r\n\r\n")
            assert (await client.reply()).status == 200
            host = b"GET /%68ealth/live HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"
            assert (await site.ask(host)).status == 200
            ext = CHUNKED + b'f;a="b"\r\n{"inputs": "a"}\r\n0\r\nX-Trailer: 1\r\n\r\n'
            assert (await site.ask(ext)).status == 200

    run(test())


def test_a_trailer_is_no_header() -> None:
    async def test() -> None:
        async with serving(api_key="right") as site:
            body = b'f\r\n{"inputs": "a"}\r\n0\r\n'
            late = CHUNKED + body + b"Authorization: Bearer right\r\nX-Request-Id: mine\r\n\r\n"
            reply = await site.ask(late)
            assert reply.status == 401
            assert reply.headers["x-request-id"] != "mine"

    run(test())


UPGRADE = post(b'{"inputs": "a"}', b"Connection: Upgrade", b"Upgrade: h2c")


@pytest.mark.parametrize("cut", [10, 80, 115, 120, 1000])
def test_an_upgrade_is_not_had_and_the_request_is_answered_as_it_is(cut: int) -> None:
    in_chunks = CHUNKED[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    in_chunks += b'f\r\n{"inputs": "a"}\r\n0\r\n\r\n'
    bare = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    async def test() -> None:
        async with serving() as site:
            for data in (UPGRADE, in_chunks, bare):
                client = await site.connect()
                client.send(data[:cut])
                assert await site.is_well()  # and it has come
                client.send(data[cut:] + POST)
                assert [(await client.reply()).status for _ in range(2)] == [200, 200]
                client.send(UPGRADE + MALFORMED["two hosts"])
                assert [(await client.reply()).status for _ in range(2)] == [200, 400]
                assert await client.rest() == b""
            client = await site.connect()
            client.send(b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n" + POST)
            assert (await client.reply()).status == 405
            assert await client.rest() == b""

    run(test())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * MAX_URL), 414),
        (GET + b"X: y\r\n" * MAX_HEADERS + b"\r\n", 431),
        (GET + b"X: %s\r\n\r\n" % (b"y" * MAX_HEAD), 431),
        (GET + b"X: %s" % (b"y" * 10 * MAX_HEAD), 431),  # and it does not end
        (GET + b"X: y\r\n" * 20_000, 431),
    ],
)
def test_a_head_is_bounded(data: bytes, status: int) -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(data)
            reply = await client.reply()
            assert reply.status == status
            assert is_tei_error(reply.json())
            assert await client.rest() == b""
            assert await site.is_well()

    run(test())


def test_a_head_within_the_bounds_is_served() -> None:
    async def test() -> None:
        async with serving() as site:
            many = b"X: y\r\n" * (MAX_HEADERS - 1)
            assert (await site.ask(GET + many + b"\r\n")).status == 200
            large = b"X: %s\r\n" % (b"y" * (MAX_HEAD - 200))
            assert (await site.ask(GET + large + b"\r\n")).status == 200
            # A body as large as a head must not be counts as none.
            client = await site.connect()
            big = post(json.dumps({"inputs": "w " * 50_000}).encode())
            client.send(big + GET + b"\r\n")
            assert [(await client.reply()).status for _ in range(2)] == [200, 200]

    run(test())


# What does not come


@pytest.mark.parametrize("begun", [b"G", GET, GET + b"X: y"])
def test_a_head_that_does_not_end_is_a_408(begun: bytes) -> None:
    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON)) as site:
            client = await site.connect()
            client.send(begun)
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            assert "x-should-retry" not in reply.headers
            assert await client.rest() == b""
            # The same for the second one on a connection.
            client = await site.connect()
            client.send(POST + begun)
            assert [(await client.reply()).status for _ in range(2)] == [200, 408]
            assert await client.rest() == b""

    run(test())


def test_a_head_that_comes_by_and_by_gets_no_more_time() -> None:
    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON)) as site:
            client = await site.connect()
            client.send(GET)
            answer = asyncio.create_task(client.reply())
            while not answer.done():
                client.send(b"X: y\r\n")
                await asyncio.wait([answer], timeout=SOON / 10)
            assert answer.result().status == 408

    run(test())


def test_who_says_nothing_is_told_nothing() -> None:
    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON)) as site:
            assert await (await site.connect()).rest() == b""

    run(test())


def test_an_idle_connection_has_a_time_of_its_own_and_blank_lines_do_not_add_to_it() -> None:
    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(idle=SOON)) as site:
            client = await site.connect()
            client.send(POST + b"\r\n\r\n")
            await client.reply()
            assert await client.rest() == b""
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON, idle=60)) as site:
            client = await site.connect()
            client.send(POST)
            await client.reply()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), SOON * 3)
            client.reset()

    run(test())


def test_a_body_shorter_than_said_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.supervision.RECEIPT_TIMEOUT", 0.2)

    async def test() -> None:
        async with serving() as site:
            for data in (
                POST.replace(b"15", b"16"),
                CHUNKED + b"2\r\n{}\r\n",
                POST.replace(b"Host", b"Expect: 100-continue\r\nHost")[:-15],
            ):
                client = await site.connect()
                client.send(data)
                reply = await client.reply()
                assert (reply.status, reply.headers["connection"]) == (408, "close")
                assert await client.rest() == b""

    run(test())


def test_a_body_that_nobody_waits_for_must_end_too() -> None:
    """Answered before it has come: the rest is dropped, for a while."""

    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON)) as site:
            client = await site.connect()
            client.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nabc")
            assert (await client.reply()).status == 200
            while not client.writer.transport.is_closing():  # goes on sending
                client.send(b"x")
                await asyncio.sleep(SOON / 20)
        async with serving(timeouts=ConnectionTimeouts(receipt=SOON)) as site:
            client = await site.connect()
            client.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            assert (await client.reply()).status == 200
            client.send(b"abc" + POST)
            assert (await client.reply()).status == 200
            client.reset()

    run(test())


def test_expectations_are_met_or_refused() -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            head_, body = post(b'{"inputs": "a"}', b"Expect: 100-Continue").split(b"\r\n\r\n")
            client.send(head_ + b"\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(body)
            assert (await client.reply()).status == 200
            client.send(post(b"{}", b"Expect: wonders"))
            assert (await client.reply()).status == 417

    run(test())


# What is not read


LARGE = json.dumps({"inputs": ["a"] * 4000}).encode()  # its answer is half a megabyte


@pytest.mark.parametrize("headers", [(), (b"Connection: close",)])
def test_who_reads_nothing_of_an_answer_is_cut_off(headers: tuple[bytes, ...]) -> None:
    async def test() -> None:
        options = {"timeouts": ConnectionTimeouts(reading=SOON), "buffer": 4096}
        async with serving(max_client_batch_size=4000, **options) as site:
            client = await site.connect()
            client.stop_reading()
            client.send(post(LARGE, *headers) * 3)
            connection = await site.connection()
            while connection in site.server.server_state.connections:
                assert await site.is_well()

    run(test())


def test_a_little_that_is_left_unread_after_the_last_answer_is_given_up_too() -> None:
    async def test() -> None:
        async with serving(timeouts=ConnectionTimeouts(reading=SOON), buffer=4096) as site:
            client = await site.connect(buffer=4096)
            client.stop_reading()
            body = json.dumps({"inputs": ["a"] * 250}).encode()  # an answer of some 30 kB
            client.send(post(body, b"Connection: close"))
            connection = await site.connection()
            while connection in site.server.server_state.connections:
                assert await site.is_well()

    run(test())


def test_who_reads_slowly_is_not_cut_off_and_holds_no_more_than_one_answer() -> None:
    async def test() -> None:
        async with serving(max_client_batch_size=4000, buffer=4096) as site:
            client = await site.connect()
            client.stop_reading()
            client.send(post(LARGE) * 20)
            connection = await site.connection()
            while not (held := connection.transport.get_write_buffer_size()):
                assert await site.is_well()
            for _ in range(3):
                assert await site.is_well()
                assert connection.transport.get_write_buffer_size() <= held < 1_000_000
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await client.reader.readexactly(200_000)
            client.stop_reading()
            connection.on_reading_timeout()  # some was read
            assert not connection.transport.is_closing()
            for _ in range(20):
                assert await site.is_well()  # until it takes no more
            connection.on_reading_timeout()
            connection.on_reading_timeout()
            assert connection.transport.is_closing()

    run(test())


def test_large_answers_that_are_not_read_have_a_bound_together() -> None:
    """A body of 8 kB may ask for an answer of 8 MB, and a client may take its time to read it."""

    async def test() -> None:
        async with serving(max_client_batch_size=4000, buffer=4096) as site:
            one = await site.ask(post(LARGE))
            assert (one.status, site.front.large_bodies._held.total()) == (200, 0)
            site.front.large_bodies = LargeBodies(len(one.body) * 5 // 2)
            slow = [await site.connect() for _ in range(2)]
            for client in slow:
                client.stop_reading()
                client.send(post(LARGE))
            await site.until(lambda: site.front.large_bodies._held.total() > len(one.body))
            last = await site.ask(post(LARGE))
            assert last.status == 429
            assert await site.is_well()
            for client in slow:
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            read = [await client.reply() for client in slow]
            assert [(reply.status, reply.body) for reply in read] == [(200, one.body)] * 2
            await site.until(lambda: not site.front.large_bodies._held.total())

    run(test())


class SinceBoot(MonotonicClock):
    """The real clock of a machine that had been up for `uptime` seconds when the test began."""

    def __init__(self, uptime: float) -> None:
        self._offset = uptime - time.monotonic()

    def now(self) -> float:  # type: ignore[override]  # a function there, a method here
        return time.monotonic() + self._offset


@pytest.mark.parametrize("uptime", [1.0, 10_000_000.0])
def test_how_long_the_machine_has_been_up_does_not_matter(uptime: float) -> None:
    async def test() -> None:
        async with serving(clock=SinceBoot(uptime)) as site:
            long = json.dumps({"inputs": "a " * 100_000, "truncate": True}).encode()
            assert (await site.ask(post(long))).status == 200  # parsed off the event loop
            assert await site.is_well()

    run(test())


# What comes in a row


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            for number in range(100):
                client.send(post(b'{"inputs": "a"}', b"X-Request-Id: %d" % number))
            replies = [await client.reply() for _ in range(100)]
            assert [reply.headers["x-request-id"] for reply in replies] == [
                str(number) for number in range(100)
            ]
            assert {reply.status for reply in replies} == {200}
            client.reset()

    run(test())


def test_a_head_on_a_connection_in_use_has_the_same_limit() -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(GET + b"\r\n")
            assert (await client.reply()).status == 200
            connection = await site.connection()
            client.send(GET + b"X: " + b"y" * 62_000)
            await site.until(lambda: connection._parser.in_head)
            client.send(b"y" * 62_000 + b"\r\n\r\n")
            assert (await client.reply()).status == 431

    run(test())


def test_a_pipeline_has_a_bound_and_what_is_within_it_is_answered() -> None:
    engine = HeldClient()

    async def test() -> list[Reply]:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST * 1000)
            await engine.submitted_one.wait()
            engine.go.set()
            return [await client.reply() for _ in range(130)]

    statuses = [reply.status for reply in run(test())]
    assert statuses == [200] * 129 + [429]


def test_the_answer_to_a_malformed_request_comes_after_those_before_it() -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST + POST + MALFORMED["two hosts"])
            await engine.submitted_one.wait()
            engine.go.set()
            assert [(await client.reply()).status for _ in range(3)] == [200, 200, 400]
            assert await client.rest() == b""
            client = await site.connect()
            client.send(POST + MALFORMED["chunk longer than said"])
            assert [(await client.reply()).status for _ in range(2)] == [200, 400]
            assert await client.rest() == b""

    run(test())


def test_a_client_that_ends_after_a_malformed_body_still_gets_what_is_due() -> None:
    """The end of its sending is not taken for a fault in one more of its requests."""
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST + POST + MALFORMED["chunk longer than said"])
            await engine.submitted_one.wait()
            client.writer.write_eof()
            connection = await site.connection()
            await site.until(lambda: connection._half_closed is not None)
            engine.go.set()
            assert [(await client.reply()).status for _ in range(3)] == [200, 200, 400]
            assert await client.rest() == b""

    run(test())


def test_who_leaves_with_a_pipeline_waiting_takes_it_along() -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST * 10)
            await engine.submitted_one.wait()
            client.reset()
            await engine.cancelled.wait()
            engine.go.set()
            assert await site.is_well()
            assert len(engine.submitted) == 1  # of the health check alone

    run(test())


def test_after_an_answer_that_closes_the_rest_of_the_pipeline_does_not_hide_it() -> None:
    async def test() -> None:
        async with serving() as site:
            site.front.stopping = True
            client = await site.connect()
            client.send(POST * 100)
            assert (await client.reply()).headers["connection"] == "close"
            assert await client.rest() == b""  # and no reset

    run(test())


# Who has gone, and who only stopped sending


def test_who_only_stopped_sending_gets_the_answer() -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST)
            client.writer.write_eof()
            probe = await client.reader.readuntil(b"\r\n\r\n")
            assert probe == b"HTTP/1.1 100 Continue\r\n\r\n"
            engine.go.set()
            assert (await client.reply()).status == 200
            assert await client.rest() == b""

    run(test())


def test_who_stopped_sending_in_mid_body_is_told() -> None:
    async def test() -> None:
        async with serving() as site:
            for data in (POST[:-1], CHUNKED + b"2\r\n{}\r\n"):
                client = await site.connect()
                client.send(data)
                client.writer.write_eof()
                assert (await client.reply()).status == 400
                assert await client.rest() == b""

    run(test())


@pytest.mark.parametrize("pipelined", [1, 3])
def test_who_has_closed_is_noticed_and_the_inputs_are_withdrawn(pipelined: int) -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST * pipelined)
            await engine.submitted_one.wait()
            client.writer.close()  # no reset: all that was sent has been read
            await engine.cancelled.wait()
            assert engine.submitted == []
            engine.go.set()
            assert await site.is_well()

    run(test())


# How many


def test_the_connection_that_was_idle_for_longest_makes_room() -> None:
    async def test() -> None:
        async with serving(max_connections=3) as site:
            clients = [await site.connect() for _ in range(3)]
            for client in (clients[1], clients[0], clients[2]):
                client.send(POST)
                assert (await client.reply()).status == 200
            clients[1].send(POST)  # idle for longest no more
            assert (await clients[1].reply()).status == 200
            assert await site.is_well()
            assert await clients[0].rest() == b""
            for client in clients[1:]:
                client.send(POST)
                assert (await client.reply()).status == 200
                client.reset()

    run(test())


def test_a_new_one_is_refused_only_where_all_are_at_work() -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine, max_connections=2) as site:
            clients = [await site.connect() for _ in range(2)]
            for client in clients:
                client.send(POST)
            await site.until(lambda: len(site.server.server_state.tasks) == 2)
            late = await site.connect()
            reply = await late.reply()
            assert reply.status == 503
            assert is_tei_error(reply.json())
            assert reply.headers["retry-after"] in ("1", "2")  # one second, spread out
            engine.go.set()
            for client in clients:
                assert (await client.reply()).status == 200
                client.reset()

    run(test())


def test_a_million_chunks_of_one_byte_are_cut_short() -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(CHUNKED + b"1\r\nx\r\n" * 1_000_000)
            reply = await client.reply()
            assert reply.status == 413
            assert await site.is_well()
            client.reset()
            client = await site.connect()
            client.send(CHUNKED + b"2;" + b"x" * (4 << 20))
            assert (await client.reply()).status == 400
            client.reset()

    run(test())


def test_the_api_description_has_what_the_edge_may_say_on_every_route() -> None:
    paths = docs.describe(PROTOCOLS, "0", wants_key=False)["paths"]
    for path, methods in paths.items():
        for method in ("get", "post"):
            for status in (400, 408, 414, 417, 431, 503) if method in methods else ():
                said = methods[method]["responses"][str(status)]["content"]["application/json"]
                assert "TEIError" in json.dumps(said["schema"]), (path, status)


async def held_with_part_of_the_next_head(site: Site, held: HeldClient) -> Client:
    client = await site.connect()
    client.send(POST + b"GET /hea")
    await held.submitted_one.wait()
    connection = await site.connection()
    await site.until(lambda: connection._parser.in_head)
    assert connection._queue is None, "it waits for nothing while its request runs"
    return client


def test_part_of_the_next_head_does_not_cost_the_request_that_runs_its_answer() -> None:
    held = HeldClient()

    async def test() -> None:
        async with serving(held) as site:
            client = await held_with_part_of_the_next_head(site, held)
            held.go.set()
            assert (await client.reply()).status == 200
            connection = await site.connection()
            assert connection._queue is connection._shared.awaiting_head

    run(test())


def test_a_refused_body_is_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"

    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
            assert (await client.reply()).status == 400

    run(test())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
