"""However the bytes are cut into pieces, the requests are the same."""

from __future__ import annotations

from typing import Any

import pytest

from service.edge.parser import MAX_HEAD, RequestParser
from service.errors import Problem

POST = b"POST /embed?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = (
    b"POST /%65mbed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
GET = b"GET /health HTTP/1.0\r\n\r\n"
UPGRADE = POST.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")
ALL = POST + CHUNKED + UPGRADE + b"\r\n" + GET
REQUESTS = [
    ("POST", "/embed", b"a=1", "1.1", True, b"abc"),
    ("POST", "/embed", b"", "1.1", True, b"abcde"),
    ("POST", "/embed", b"a=1", "1.1", True, b"abc"),
    ("GET", "/health", b"", "1.0", False, b""),
]


class RecordingSink:
    def __init__(self) -> None:
        self.begun: list[tuple[Any, ...]] = []
        self.requests: list[tuple[Any, ...]] = []
        self.tunnels = 0
        self._body = b""

    def on_request(
        self, scope: dict[str, Any], keep_alive: bool, expects_continue: bool
    ) -> RecordingSink:
        names = ("method", "path", "query_string", "http_version")
        self.begun.append((*(scope[name] for name in names), keep_alive))
        self._body = b""
        return self

    def add_body(self, body: bytes, more_body: bool) -> None:
        self._body += body
        if not more_body:
            self.requests.append((*self.begun[-1], self._body))

    def on_tunnel(self) -> None:
        self.tunnels += 1


def parsed(*pieces: bytes) -> tuple[RecordingSink, Problem | None]:
    sink = RecordingSink()
    parser = RequestParser(sink, {"type": "http"})
    for piece in pieces:
        problem = parser.feed(piece)
        if problem is not None:
            return sink, problem
    return sink, None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, len(ALL)])
def test_requests_are_the_same_however_they_are_cut(size: int) -> None:
    pieces = [ALL[start : start + size] for start in range(0, len(ALL), size)]
    sink, problem = parsed(*pieces)
    assert problem is None
    assert sink.requests == REQUESTS


def test_a_head_is_known_from_its_first_byte_to_its_last() -> None:
    parser = RequestParser(RecordingSink(), {})
    assert not parser.in_head
    parser.feed(POST[:1])
    assert parser.in_head
    parser.feed(POST[1:-3])
    assert not parser.in_head


def test_behind_connect_nothing_is_read() -> None:
    sink, problem = parsed(b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (problem, sink.tunnels) == (None, 1)
    assert [request[0] for request in sink.requests] == ["CONNECT"]


def test_a_head_behind_a_large_body_has_its_whole_limit() -> None:
    body = b"x" * 200_000
    first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + body
    large = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (MAX_HEAD - 100)
    sink, problem = parsed(first + large, b"y\r\n\r\n")
    assert problem is None
    assert len(sink.requests) == 2
    _, problem = parsed(first + large, b"y" * 100 + b"\r\n\r\n")
    assert problem is not None
    assert problem.status == 431


def test_a_head_in_pieces_is_refused_before_its_end() -> None:
    _, problem = parsed(b"GET / HTTP/1.1\r\nX: ", *[b"y" * 1000] * (MAX_HEAD // 1000 + 1))
    assert problem is not None
    assert problem.status == 431
