"""One request and its response, as the ASGI application sees them: receive and send.

https://asgi.readthedocs.io/en/latest/specs/www.html. The head of a response is held back until the
first piece of its body, and both leave in one write: a second one costs as much as the first.
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Protocol

from starlette.types import ASGIApp, Message

from service.errors import Header, Problem
from service.http.supervision import Disconnected

_log = logging.getLogger(__name__)
_LARGE = 64 << 10  # bytes; to copy that many costs more than a second write
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_STATUS_LINES = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES.get(status, b""))
    for status in range(100, 600)
}


def first_lines(status: int) -> bytes:
    """Of a response: the status line, and the date."""
    return _STATUS_LINES[status] + _date_line(int(time.time()))


@lru_cache(maxsize=1)
def _date_line(now: int) -> bytes:
    return b"date: %s\r\n" % formatdate(now, usegmt=True).encode()


class Wire(Protocol):
    """The connection, as a request sees it."""

    transport: asyncio.Transport
    is_read_paused: bool
    is_write_paused: bool

    def resume_reading(self) -> None: ...

    async def drain(self) -> None:
        """Returns once the client has read what was written, or has gone."""

    def on_response_complete(self, keep_alive: bool) -> None: ...

    def on_application_end(self, cycle: RequestCycle) -> None:
        """Whether or not there is a whole response."""


class RequestCycle:
    # On the class: what most requests never change costs them nothing.
    task: asyncio.Task[None]
    disconnected = False
    _refusal: tuple[Problem, bytes] | None = None  # what the edge has answered, and its id
    response_started = False  # bytes of it have been written
    response_complete = False
    body: bytes | bytearray = b""  # received, and not taken by the application yet
    more_body = True  # is still to arrive
    _has_message = False  # for the application to receive
    _message_event: asyncio.Event | None = None  # made only if the application has to wait
    _head = b""  # of the response, held back
    _has_body = True  # the response; to HEAD it has none
    _is_chunked = False
    _unsent: int | None = None  # bytes of the announced content-length; None: nothing was announced

    def __init__(
        self, wire: Wire, scope: dict[str, Any], keep_alive: bool, expects_continue: bool
    ) -> None:
        self._wire = wire
        self.scope = scope
        self.keep_alive = keep_alive
        self._expects_continue = expects_continue

    def start(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        self.task = loop.create_task(self._run(app))
        return self.task

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError):  # cancelled: the server waits no longer for it
            _log.exception("a request failed outside its endpoint")
        finally:
            # Not a callback of the task: that takes one more turn of the event loop.
            self._wire.on_application_end(self)

    # What the connection tells

    def add_body(self, body: bytes, more_body: bool) -> None:
        self.more_body = more_body
        if self.response_complete:
            return  # nobody wants it
        if not self.body:
            self.body = body
        else:
            if type(self.body) is bytes:
                self.body = bytearray(self.body)
            self.body += body
        self._has_message = True
        if self._message_event is not None:
            self._message_event.set()

    def disconnect(self) -> None:
        self.disconnected = True
        self._has_message = True
        if self._message_event is not None:
            self._message_event.set()

    def refuse(self, problem: Problem, request_id: str) -> None:
        """The edge has answered, as the body is no HTTP: for the application to log."""
        self._refusal = problem, request_id.encode()
        self.disconnect()

    # ASGI

    async def receive(self) -> Message:
        wire = self._wire
        if self._expects_continue and not (self.disconnected or wire.transport.is_closing()):
            self._expects_continue = False
            wire.transport.write(CONTINUE)
        if wire.is_read_paused and not (self.disconnected or self.response_complete):
            wire.resume_reading()
        while not self._has_message:
            if self._message_event is None:
                self._message_event = asyncio.Event()
            self._message_event.clear()
            await self._message_event.wait()
        if self._refusal is not None:
            return {"type": "http.disconnect", "refusal": self._refusal}
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self._has_message = False
        body, self.body = bytes(self.body), b""  # bytes of bytes: no copy
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Returns once the client is ready to read more. Does nothing once it has gone. Raises
        Disconnected where the edge has answered already."""
        kind = message["type"]
        has_begun = self.response_started or self._head
        if kind == "http.response.start" and not has_begun:
            self._head = self._make_head(message["status"], message.get("headers", ()))
            return
        if kind != "http.response.body" or not has_begun or self.response_complete:
            raise RuntimeError(f"ASGI message {kind!r} is out of turn")
        wire = self._wire
        if wire.is_write_paused and not self.disconnected:
            await wire.drain()
        if self._refusal is not None:
            raise Disconnected(self._refusal)
        if self.disconnected:
            return
        more_body = message.get("more_body", False)
        data = message.get("body", b"")
        if more_body or self._unsent != len(data):  # else it is the whole body, as announced
            data = self._framed(data, more_body)
        if self._head:
            if len(data) > _LARGE:
                wire.transport.write(self._head)
            else:
                data = self._head + data
            self._head = b""
            self.response_started = True
        if data:
            wire.transport.write(data)
        if not more_body:
            self.response_complete = True
            self.body = b""  # what of it has not been taken will not be
            self._has_message = True  # that is, the disconnect
            if self._message_event is not None:
                self._message_event.set()
            wire.on_response_complete(self.keep_alive)

    def _make_head(self, status: int, headers: Iterable[Header]) -> bytes:
        lines, length, connection = [], None, b""
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"content-length":
                length = value
            elif name == b"connection":
                connection = value
        self._expects_continue = False
        if self.scope["method"] == "HEAD":
            self._has_body = False
        elif length is not None:
            self._unsent = int(length)
        elif status in (204, 304):
            self._unsent = 0
        elif self.scope["http_version"] == "1.1":
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked")
        if connection and b"close" in connection:  # Python looks for bytes by way of an exception
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        lines += (b"", b"")
        block = b"\r\n".join(lines)
        if not block.count(b"\r") == block.count(b"\n") == len(lines) - 1:
            raise RuntimeError("a header contains the end of a line: this is a bug")
        return first_lines(status) + block

    def _framed(self, body: bytes, more_body: bool) -> bytes:
        if not self._has_body:
            return b""
        if self._is_chunked:
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            return chunk if more_body else chunk + b"0\r\n\r\n"
        if self._unsent is not None:
            self._unsent -= len(body)
            if self._unsent < 0 or (self._unsent and not more_body):
                raise RuntimeError("the body has another length than content-length says")
        return body
