"""One client's connection: uvicorn's, made strict and bounded.

Every head arrives in time, within its limits, and can be read in one way only; else the answer is
one of ours, and the last. What is sent must be read. A client that has gone is noticed.
A request that comes whole and is answered at once pays next to nothing for all this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.edge import head
from service.edge.connections import Connections
from service.edge.request_cycle import EXTENSIONS, Cycle
from service.errors import Problem, internal

_log = logging.getLogger(__name__)
_MAX_PIPELINED = 128  # requests that one connection may have waiting behind the one that runs
_MAX_CHUNKS = 1 << 16  # of one body: a million of one byte each would be a second of our time
_MAX_FRAMING = 1 << 20  # bytes of a chunked body that are none of it: sizes, extensions, trailers
_LARGE = 64 << 10  # bytes
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Outlet:
    """The transport as an exchange sees it: head and body leave together, and closing is ours."""

    __slots__ = ("_head", "_write", "close", "is_closing")

    def __init__(self, connection: Connection) -> None:
        self._write = connection.transport.write
        self._head = b""
        self.is_closing = connection.transport.is_closing
        self.close = connection.finish

    def write(self, data: bytes) -> None:
        if self._head:
            if len(data) > _LARGE:  # to copy it would cost more than a second system call
                self.flush()
            else:
                data = self._head + data
                self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and data != _CONTINUE:
            self._head = data
            return
        self._write(data)

    def flush(self) -> None:
        """A head that no body follows."""
        head, self._head = self._head, b""
        if head:
            self._write(head)


class Connection(HttpToolsProtocol):
    cycle: Cycle

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._all = connections
        self.default_lines = connections.default_lines
        self.outlet: Outlet | None = None
        # What comes in
        self._in_head = False  # the first byte of a head is here and its last is not
        self._in_body = False  # the head is here and the last byte of the body is not
        self._is_timed = False  # among those whose head is awaited
        self._is_idle = False
        self._special: dict[bytes, bytes] = {}
        self._received = 0  # bytes, in the last piece
        self._head_size = 0  # bytes, of the pieces before it that hold nothing but this head
        self._head_begins = 0  # bytes, of the piece that it begins in, behind another request
        self._chunks = -1  # of this body; -1: it has a length
        self._framing = 0  # bytes of this body that are none of it, if it has chunks
        self._is_deaf = False  # what else comes is dropped
        self._watched: int | None = None  # the descriptor; the client sends nothing more
        # What goes out
        self._running: Cycle | None = None  # whose answer is due
        self._unanswered = 0  # requests: the running one and those behind it
        self._refusal: Problem | None = None  # to be said after the answers to all of these
        self._is_leaving = False  # all is said, and the client may still be sending
        self._unread = 0  # bytes, when last looked

    @property
    def is_silent(self) -> bool:
        """No request has begun."""
        return not (self._in_head or self._unanswered or self._is_deaf)

    # From its start to its end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # all that the kernel does not take is unread
        self.outlet = Outlet(self)
        if len(self.connections) > self._all.bound and not self._all.make_room():
            self.refuse(Problem(503, "there are too many connections", retry_after=1.0))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watched is not None:
            self._all.hangups.forget(self._watched)
        self._all.forget(self)
        self._all.stalled.remove(self)
        self.pipeline.clear()
        _tell_gone(self._running)  # uvicorn tells only the last
        self.outlet = None
        super().connection_lost(exc)
        # Each knows the connection, which would keep them, and the last body, until a collection.
        self._running = None
        del self.cycle, self.parser

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps the connection open for what is still to be sent."""
        if not self._unanswered:
            return None
        self._watched = self.transport.get_extra_info("socket").fileno()
        self._all.hangups.watch(self._watched, self.transport.abort)
        if self._in_body:
            self.refuse(head.malformed("the connection ended in mid-body"))
        elif not self.flow.write_paused and self.scope["http_version"] == "1.1":
            # Has it closed, or only said all it had to? A client that listens skips this
            # (RFC 9110, section 15.2); the kernel of one that does not resets the connection.
            self.transport.write(_CONTINUE)
        return True

    def finish(self) -> None:
        """After the last answer. Who may still be sending is let finish: closed under him, the
        connection would be reset, and the answer lost with it."""
        if self.transport.is_closing() or self._is_leaving:
            return
        assert self.outlet is not None
        self.outlet.flush()
        may_send = self._in_body or self._is_deaf or self.pipeline
        self._unanswered = 0
        self.pipeline.clear()
        self._all.forget(self)
        if self._watched is not None or not may_send or not self._all.may_linger():
            self.transport.close()
            return
        self._is_leaving = self._is_deaf = True
        self._all.leaving.add(self)
        self.transport.write_eof()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """The server ends: no request after this one."""
        if self._running is not None:
            self._running.keep_alive = False
        elif not self._is_leaving:
            self.transport.close()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._received = len(data)
        rest = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self.refuse(_problem(error))
        else:
            if self._in_head:
                self._await_rest_of_head()
            elif self._chunks >= 0:
                self._framing += len(data)
                if self._framing > _MAX_FRAMING:
                    self.refuse(head.malformed("too much of the body is framing"))
        if rest is not None:
            self._go_on_without_upgrade(rest)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._special = {}
        self._in_head = True
        self._chunks = -1
        if self._is_idle:
            self._is_idle = False
            self._all.idle.remove(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: the request runs already, with the headers that it had
        name = name.lower()
        if name in head.SPECIAL:
            if name in self._special:
                raise head.twice(name)
            self._special[name] = value
            self.expect_100_continue |= name == b"expect"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """uvicorn's own, less what is not for us: websockets, root path, its bound of requests."""
        parser, url, headers, special = self.parser, self.url, self.headers, self._special
        version = parser.get_http_version()
        if self._head_begins + self._head_size + self._received > head.MAX_HEAD:
            head.check_size(url, headers)
        head.check(version, url, headers, special)
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise Problem(429, "too many requests wait on this connection", retry_after=1.0)
        path, raw_path, query = head.target(url)
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
            "extensions": EXTENSIONS,
        }
        before = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self.cycle = cycle = Cycle(self, self.scope, keep_alive)
        if self.expect_100_continue and version == "1.1":
            cycle.waiting_for_100_continue = True
        self._unanswered += 1
        self._in_head = False
        self._in_body = True
        if self._is_timed:
            self._is_timed = False
            self._all.heads.remove(self)
        if b"transfer-encoding" in special:
            self._chunks = self._framing = 0
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise Problem(413, f"the body has more than {_MAX_CHUNKS} chunks")

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.take(body)
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._in_body = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        elif not self._is_leaving:
            self._all.rests.remove(self)
            self._becomes_idle()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Java's HttpClient asks for HTTP/2 with every first request, and curl can: it is not to be
        had here. The parser then takes the body for something else; another one reads it."""
        if self.scope["method"] == "CONNECT":
            self._is_deaf = True
            self.cycle.keep_alive = False
            return
        headers = dict(self.headers)
        framing = b""
        for name in (b"content-length", b"transfer-encoding"):
            if name in headers:
                framing = b"%s: %s\r\n" % (name, headers[name])
        self._in_body = self.cycle.more_body = True
        self.parser = httptools.HttpRequestParser(_Again(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % framing)
        if rest:
            self.data_received(rest)

    def _await_head(self) -> None:
        self._is_timed = True
        self._head_size = 0
        self._head_begins = self._received
        self._all.heads.add(self)

    def _await_rest_of_head(self) -> None:
        if not self._is_timed:
            self._await_head()
            return
        self._head_size += self._received
        if self._head_size > head.MAX_HEAD:
            self.refuse(head.too_large())

    def _becomes_idle(self) -> None:
        self._is_idle = True
        self._all.idle.add(self)

    def head_is_late(self) -> None:
        self._is_timed = False
        if self._in_head:
            self.refuse(head.too_late(self._all.heads.seconds))
        else:
            self.transport.close()  # it never said a word

    # What goes out

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:  # a Cycle
        self._running = cycle
        cycle.start(app, self.loop)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._running = None
        assert self.outlet is not None
        self.outlet.flush()
        if self._is_leaving or self.transport.is_closing():
            return
        self._unanswered -= 1
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._say(self._refusal)
        elif self._watched is not None or self._is_deaf:
            self.finish()
        elif self._in_body:
            self._all.rests.add(self)
        elif not self._in_head:
            self._becomes_idle()

    def refuse(self, problem: Problem) -> None:
        """The last answer here, after those to all requests before."""
        _log.debug("%s: %d %s", self.client, problem.status, problem.message)
        self._is_deaf = True
        self._all.forget(self)
        if self._in_body and self._gives_up_the_last():
            return
        self._refusal = problem
        if not self._unanswered:
            self._say(problem)

    def _gives_up_the_last(self) -> bool:
        """The request in whose body the fault is. Whether there is nothing left to be said."""
        cycle = self.cycle
        if cycle.response_complete:
            self.finish()
        elif cycle.response_started:
            self.transport.abort()
        elif cycle is self._running:
            _tell_gone(cycle)
            self._running = None
            self._unanswered -= 1
        else:
            self.pipeline.popleft()  # it has not begun
            self._unanswered -= 1
        return cycle.response_started

    def _say(self, problem: Problem) -> None:
        headers, body = self._all.refusal(problem)
        lines = [
            b"%s: %s\r\n" % header for header in (*self.server_state.default_headers, *headers)
        ]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))
        self.finish()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._all.stalled.add(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.stalled.remove(self)

    def reading_is_due(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread:
            _log.debug("%s: reads nothing of its answer", self.client)
            self.transport.abort()
        else:
            self._unread = unread
            self._all.stalled.add(self)


class _Again:
    """The connection, for a parser that gets a head which the connection knows already."""

    def __init__(self, connection: Connection) -> None:
        self._knows_head = True
        self._connection = connection
        self.on_chunk_header = connection.on_chunk_header
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._knows_head:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._knows_head:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._knows_head:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._knows_head:
            self._connection.on_headers_complete()
        self._knows_head = False


def _problem(error: httptools.HttpParserError) -> Problem:
    cause = error.__context__
    if isinstance(cause, Problem):
        # Without its frames: they know the connection, which keeps it, and all the bytes that came.
        return cause.with_traceback(None)
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        _log.error("a connection failed", exc_info=cause)
        return internal()
    return head.malformed(str(cause or error)[:200])


def _tell_gone(cycle: Cycle | None) -> None:
    if cycle is not None and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()
