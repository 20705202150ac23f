"""The bytes of one connection, taken apart into requests. No transport, no clock, no ASGI task.

httptools reads HTTP. What it accepts although two servers might read it differently, or although it
is too large, is refused here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from service.errors import Header, Problem, internal, quote

_log = logging.getLogger(__name__)
MAX_HEAD = 64 << 10  # bytes
MAX_HEADERS = 128
MAX_URL = 8 << 10  # bytes
_VERSIONS = frozenset({"1.1", "1.0"})
# Once each, and looked at. (The parser itself sees to Content-Length.)
SPECIAL = frozenset({b"host", b"transfer-encoding", b"expect", b"authorization"})
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=-]*(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
_MAX_CHUNKS = 1 << 16  # of one body: a million chunks of one byte would take a second
_MAX_FRAMING = 1 << 20  # bytes of a chunked body that are not content: sizes, extensions, trailers


class Incoming(Protocol):
    """A request whose head is here."""

    def add_body(self, body: bytes, more_body: bool) -> None:
        """The next piece. `more_body`: False with the last one, and where there is no body."""


class Sink(Protocol):
    """What the requests are handed to."""

    def on_request(
        self, scope: dict[str, Any], keep_alive: bool, expects_continue: bool
    ) -> Incoming:
        """A whole head. May raise Problem."""

    def on_tunnel(self) -> None:
        """The request was CONNECT: what follows is no HTTP, and is not read."""


class RequestParser:
    """The methods from on_message_begin to on_message_complete are called by httptools."""

    def __init__(self, sink: Sink, scope: dict[str, Any]) -> None:
        """`scope`: the part of the ASGI scope that all requests of the connection share."""
        self._sink = sink
        self._scope = scope
        self._http = httptools.HttpRequestParser(self)
        # Else nothing is read behind a request that says `connection: close`.
        self._http.set_dangerous_leniencies(lenient_data_after_close=True)
        self.in_head = False  # the first byte of a head has arrived, and its last has not
        self._request: Incoming | None = None  # whose body arrives
        self._body: list[bytes] = []  # of the piece that is being parsed
        self._url = b""
        self.headers: list[Header] = []  # of the latest head, as far as it has arrived
        self._special: dict[bytes, bytes] = {}
        self._piece = 0  # bytes, in the piece that is being parsed
        self._is_behind = False  # the next head to begin in this piece is behind another request
        self._head_size = 0  # bytes, in the earlier pieces that hold a part of this head
        self._head_first = 0  # bytes, in the first of them, if it also holds another request
        self._chunks = -1  # in this body; -1: it is not chunked
        self._framing = 0  # bytes of this body that are not content, if it is chunked
        self._is_repeated = False  # the parser is given a head again that has been handed over

    def close(self) -> None:
        """httptools' parser holds our methods, and so this object."""
        del self._http

    def feed(self, data: bytes) -> Problem | None:
        """Returns what is wrong with the bytes. Not raised: its traceback would hold the sink."""
        self._piece = len(data)
        self._is_behind = self._request is not None
        upgraded_at = None
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            upgraded_at = upgrade.args[0]
        except httptools.HttpParserError as error:
            self._request = None
            return _problem_of(error)
        if self._body:
            self._hand_over_body(more_body=True)
        if upgraded_at is not None:
            return self._continue_without_upgrade(data[upgraded_at:])
        if self.in_head:
            self._head_size += self._piece
            if self._head_size - self._head_first > MAX_HEAD:
                return _too_large()
        elif self._chunks >= 0:
            self._framing += self._piece
            if self._framing > _MAX_FRAMING:
                return malformed("too much of the body is framing")
        return None

    def _continue_without_upgrade(self, rest: bytes) -> Problem | None:
        """HTTP/1.1 goes on: Java's HttpClient and curl ask for HTTP/2 with a first request.

        The parser takes what follows such a head for another protocol; a new one reads the body.
        """
        method = self._http.get_method()
        self._http = httptools.HttpRequestParser(self)
        self._http.set_dangerous_leniencies(lenient_data_after_close=True)
        if method == b"CONNECT":
            self._sink.on_tunnel()
            self._hand_over_body(more_body=False)
            return None
        headers = dict(self.headers)
        framing = b""
        for name in (b"content-length", b"transfer-encoding"):
            if name in headers:
                framing = b"%s: %s\r\n" % (name, headers[name])
        self._is_repeated = True
        self._http.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % framing)
        return self.feed(rest) if rest else None

    def on_message_begin(self) -> None:
        if self._is_repeated:
            return
        self._url = b""
        self.headers = []
        self._special = {}
        self._chunks = -1
        self._head_size = 0
        self._head_first = self._piece if self._is_behind else 0
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer: the request runs already, with the headers that it had
        name = name.lower()
        if name in SPECIAL:
            if name in self._special:
                raise _duplicate(name)
            self._special[name] = value
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_repeated:
            self._is_repeated = False
            return
        http, url, headers, special = self._http, self._url, self.headers, self._special
        version = http.get_http_version()
        if self._head_size + self._piece > MAX_HEAD:
            _check_size(url, headers)
        _check(version, url, headers, special)
        path, raw_path, query = _target(url)
        scope = {
            **self._scope,
            "http_version": version,
            "method": http.get_method().decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
        }
        is_1_0 = version == "1.0"
        keep_alive = not is_1_0 and http.should_keep_alive()
        expects_continue = b"expect" in special and not is_1_0
        self._request = self._sink.on_request(scope, keep_alive, expects_continue)
        self.in_head = False
        if b"transfer-encoding" in special:
            self._chunks = self._framing = 0

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise Problem(413, f"the body has more than {_MAX_CHUNKS} chunks")

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._http.should_upgrade():
            return  # the body is still to come
        self._is_behind = True
        self._hand_over_body(more_body=False)

    def _hand_over_body(self, *, more_body: bool) -> None:
        request, body = self._request, b"".join(self._body)  # of one piece: no copy
        assert request is not None, "a body without a request: this is a bug"
        self._body.clear()
        if not more_body:
            self._request = None
        request.add_body(body, more_body)


def _problem_of(error: httptools.HttpParserError) -> Problem:
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause.with_traceback(None)  # its frames hold the connection and all that it received
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        _log.error("a connection failed", exc_info=cause)
        return internal()
    return malformed(str(cause or error)[:200])


def _check(
    version: str, url: bytes, headers: Sequence[Header], special: Mapping[bytes, bytes]
) -> None:
    """`special` are those of the headers that are SPECIAL. Raises Problem."""
    if len(url) > MAX_URL:
        raise Problem(414, f"the URL is longer than {MAX_URL} bytes")
    if len(headers) > MAX_HEADERS:
        raise Problem(431, f"there are more than {MAX_HEADERS} headers")
    if version not in _VERSIONS:
        raise malformed(f"HTTP/{version} is not supported; use HTTP/1.1")
    host = special.get(b"host")
    if host is None:
        if version == "1.1":
            raise malformed("the Host header is missing")
    elif not _is_host(host):
        raise malformed(f"invalid Host header {quote(host.decode('latin-1'))}")
    coding = special.get(b"transfer-encoding")
    if coding is not None:
        _check_coding(version, coding)
    expected = special.get(b"expect", b"100-continue")
    if expected.lower() != b"100-continue":
        raise Problem(
            417,
            f"Expect {quote(expected.decode('latin-1'))}: only 100-continue is supported",
            param="Expect",
        )


# A service is asked for few different things: each is taken apart once.
@lru_cache(maxsize=256)
def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, the same as it was sent, and query. Raises Problem, or the parser's own error."""
    if url[:1] == b"/" and url.find(b"#") < 0:  # the parser has looked at every character of it
        raw_path, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        if parsed.path is None:
            raise malformed("the URL has no path")
        raw_path, query = parsed.path, parsed.query or b""
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _duplicate(name: bytes) -> Problem:
    return malformed(f"the {name.decode()} header occurs twice")


def malformed(why: str) -> Problem:
    return Problem(400, f"not a valid HTTP request: {why}", code="malformed_http")


def _check_size(url: bytes, headers: Sequence[Header]) -> None:
    """O(headers): only for a head that may be too large. Raises Problem 431."""
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD:
        raise _too_large()


def _too_large() -> Problem:
    return Problem(431, f"the head of the request is larger than {MAX_HEAD} bytes")


def too_late(seconds: float) -> Problem:
    return Problem(408, f"the head of the request did not arrive within {seconds:g} s")


def _check_coding(version: str, value: bytes) -> None:
    if version == "1.0":
        raise malformed("HTTP/1.0 has no transfer-encoding")
    if value.lower() != b"chunked":
        raise malformed(
            f"transfer-encoding {quote(value.decode('latin-1'))}: only chunked is supported"
        )
