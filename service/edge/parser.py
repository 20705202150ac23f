"""The bytes of one connection, taken apart into requests. No transport, no clock, no ASGI task.

httptools reads HTTP. What it accepts although two servers might read it differently, or although it
is too large, is refused here and in head.py.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import httptools

from service.edge import head
from service.errors import Header, Problem, internal

_log = logging.getLogger(__name__)
_MAX_CHUNKS = 1 << 16  # of one body: a million chunks of one byte would take a second
_MAX_FRAMING = 1 << 20  # bytes of a chunked body that are not content: sizes, extensions, trailers


class Sink(Protocol):
    """What the requests are handed to."""

    def on_request(self, scope: dict[str, Any], keep_alive: bool, expects_continue: bool) -> None:
        """A whole head. May raise Problem."""

    def on_body(self, body: bytes) -> None:
        """The next piece of the body of that request."""

    def on_body_end(self) -> None:
        """The request is whole. Also called for a request without a body."""

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
        self._in_body = False
        self._url = b""
        self._headers: list[Header] = []
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
        self._is_behind = self._in_body
        upgraded_at = None
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            upgraded_at = upgrade.args[0]
        except httptools.HttpParserError as error:
            return _problem_of(error)
        if upgraded_at is not None:
            return self._continue_without_upgrade(data[upgraded_at:])
        if self.in_head:
            self._head_size += self._piece
            if self._head_size - self._head_first > head.MAX_HEAD:
                return head.too_large()
        elif self._chunks >= 0:
            self._framing += self._piece
            if self._framing > _MAX_FRAMING:
                return head.malformed("too much of the body is framing")
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
            return None
        headers = dict(self._headers)
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
        self._headers = []
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
        if name in head.SPECIAL:
            if name in self._special:
                raise head.duplicate(name)
            self._special[name] = value
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_repeated:
            self._is_repeated = False
            return
        http, url, headers, special = self._http, self._url, self._headers, self._special
        version = http.get_http_version()
        if self._head_size + self._piece > head.MAX_HEAD:
            head.check_size(url, headers)
        head.check(version, url, headers, special)
        path, raw_path, query = head.target(url)
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
        self._sink.on_request(scope, keep_alive, b"expect" in special and not is_1_0)
        self.in_head = False
        self._in_body = True
        if b"transfer-encoding" in special:
            self._chunks = self._framing = 0

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise Problem(413, f"the body has more than {_MAX_CHUNKS} chunks")

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        self._sink.on_body(body)

    def on_message_complete(self) -> None:
        if self._http.should_upgrade():
            return  # the body is still to come
        self._in_body = False
        self._is_behind = True
        self._sink.on_body_end()


def _problem_of(error: httptools.HttpParserError) -> Problem:
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause.with_traceback(None)  # its frames hold the connection and all that it received
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        _log.error("a connection failed", exc_info=cause)
        return internal()
    return head.malformed(str(cause or error)[:200])
