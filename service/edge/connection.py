"""One client's connection, strict and bounded: bytes in, requests to the application, bytes out.

Every head arrives in time, within its limits, and can be read in one way only; else the response is
one of ours, and the last. The client must read what is sent, and it is noticed if it has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from starlette.types import ASGIApp

from service.edge.connections import Connections, Queue
from service.edge.parser import RequestParser, malformed, too_late
from service.edge.request_cycle import CONTINUE, RequestCycle
from service.edge.sockets import address_of, client_of, count_unread, has_unread_bytes
from service.errors import Problem, internal

_log = logging.getLogger(__name__)
_MAX_PIPELINED = 128  # requests that may wait behind the one that runs
_MAX_BUFFERED = 64 << 10  # bytes of a body that the application has not taken; then reading stops


class Connection(asyncio.Protocol):
    transport: asyncio.Transport
    plain: asyncio.Transport | None = None  # the one under TLS; None: there is no TLS

    def __init__(self, shared: Connections, app: ASGIApp, app_state: dict[str, Any]) -> None:
        self._shared = shared
        self._app = app
        self._app_state = app_state  # of the lifespan; each request gets a copy
        self._loop = asyncio.get_running_loop()
        self._queue: Queue | None = None  # that it waits in
        # The requests, oldest first: one runs, the others wait behind it.
        self._running: RequestCycle | None = None
        self._pipeline: deque[RequestCycle] = deque()
        self._receiving: RequestCycle | None = None  # the newest, if its body is not all here
        self._refusal: Problem | None = None  # to be sent after the responses to all of these
        self._discarding = False  # what else arrives is not read
        self.is_read_paused = False
        self._half_closed: int | None = None  # the descriptor, once the client sends no more
        self.is_write_paused = False
        self._writable: asyncio.Event | None = None  # made only if something waits to write
        self._unread = 0  # bytes that the client had not read when last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what a TCP server makes
        shared = self._shared
        self.transport = transport
        # Whatever the kernel does not take is unread. (Of 0 bytes, TLS would always have enough.)
        transport.set_write_buffer_limits(high=0 if self.plain is None else 1)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http" if self.plain is None else "https",
            "root_path": "",
            "client": address_of(transport, "peername"),
            "server": address_of(transport, "sockname"),
        }
        self._parser = RequestParser(self, scope)
        shared.state.connections.add(self)
        if len(shared.state.connections) > shared.max_connections and not shared.evict_idle():
            self._refuse(Problem(503, "too many open connections", retry_after=1.0))
        else:
            self._wait_in(shared.awaiting_head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._half_closed is not None:
            self._shared.hangups.remove(self._half_closed)
        self._shared.state.connections.discard(self)
        self._shared.stalled.remove(self)
        self._wait_in(None)
        if self._running is not None:
            self._running.disconnect()
        self.resume_writing()
        # A request that still runs holds the connection; so nothing here may hold the request.
        self._running = self._receiving = None
        self._pipeline.clear()
        self._parser.close()
        del self._parser

    def eof_received(self) -> bool:
        """True keeps the connection open, for responses that are still due."""
        running = self._running
        if running is None or self.plain is not None:  # TLS ends both ways at once
            return False
        self._half_closed = self.transport.get_extra_info("socket").fileno()
        self._shared.hangups.add(self._half_closed, self.transport.abort)
        may_probe = not (self.is_write_paused or running.response_started)
        if self._receiving is not None:
            self._refuse(malformed("the connection ended before the whole body had arrived"))
        elif may_probe and running.scope["http_version"] == "1.1":
            # Has it closed, or only ended its sending? A client that still reads skips this
            # (RFC 9110, section 15.2); the kernel of one that does not resets the connection.
            self.transport.write(CONTINUE)
        return True

    def shutdown(self) -> None:
        """The server ends: no request after this one. Called by uvicorn."""
        if self._running is not None:
            self._running.keep_alive = False
        elif self._queue is not self._shared.lingering:
            self.transport.close()

    def _finish(self) -> None:
        """After the last response. A client that may still be sending is read from until it closes
        (lingering close): else the kernel would reset the connection, and the response be lost."""
        if self.transport.is_closing() or self._queue is self._shared.lingering:
            return
        may_send = self._receiving is not None or self._discarding or self._pipeline
        reads_on = self._half_closed is None and self.plain is None  # TLS does so by itself
        self._running = None
        self._pipeline.clear()
        self._discarding = True
        if not (reads_on and may_send and self._shared.may_linger()):
            self._wait_in(None)
            self.transport.close()
            return
        self._wait_in(self._shared.lingering)
        self.transport.write_eof()
        self.resume_reading()

    def _wait_in(self, queue: Queue | None) -> None:
        if self._queue is not None:
            self._queue.remove(self)
        self._queue = queue
        if queue is not None:
            queue.add(self)

    # What arrives

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        problem = self._parser.feed(data)
        receiving = self._receiving
        if receiving is not None and not receiving.more_body:
            self._receiving = None
            if receiving.response_complete:
                self._wait_in(self._shared.idle)
        if problem is not None:
            self._refuse(problem)
        elif receiving is not None and len(receiving.body) > _MAX_BUFFERED:
            self._pause_reading()
        elif (
            self._running is None
            and self._parser.in_head
            and self._queue is not self._shared.awaiting_head
        ):
            self._wait_in(self._shared.awaiting_head)

    def on_request(
        self, scope: dict[str, Any], keep_alive: bool, expects_continue: bool
    ) -> RequestCycle:
        if len(self._pipeline) >= _MAX_PIPELINED:
            raise Problem(429, "too many requests wait on this connection", retry_after=1.0)
        scope["state"] = self._app_state.copy()
        self._wait_in(None)
        self._receiving = cycle = RequestCycle(self, scope, keep_alive, expects_continue)
        if self._running is None:
            self._running = cycle
            self._shared.state.tasks.add(cycle.start(self._app, self._loop))
        else:
            self._pipeline.append(cycle)
            self._pause_reading()
        return cycle

    def on_tunnel(self) -> None:
        assert self._receiving is not None, "a tunnel without a request: this is a bug"
        self._receiving.keep_alive = False
        self._discarding = True

    def _pause_reading(self) -> None:
        if not self.is_read_paused:
            self.is_read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.is_read_paused:
            self.is_read_paused = False
            self.transport.resume_reading()

    # What leaves

    def on_response_complete(self, keep_alive: bool) -> None:
        self._running = None
        if self.plain is not None and not self.is_write_paused:
            self._watch_reading()  # TLS has passed on all of it at once, read or not
        if self.transport.is_closing():
            return
        if not keep_alive:
            self._finish()
            return
        self.resume_reading()
        if self._pipeline:
            self._running = cycle = self._pipeline.popleft()
            self._shared.state.tasks.add(cycle.start(self._app, self._loop))
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._half_closed is not None or self._discarding:
            self._finish()
        elif self._receiving is not None:
            self._wait_in(self._shared.draining_body)
        else:  # part of the next head may be here
            self._wait_in(self._shared.awaiting_head if self._parser.in_head else self._shared.idle)

    def on_application_end(self, cycle: RequestCycle) -> None:
        self._shared.state.tasks.discard(cycle.task)
        if cycle.response_complete or cycle.disconnected:
            return
        if cycle.response_started:
            self._finish()  # cut short, which the client can see
        else:
            self._send_refusal(internal())

    def _refuse(self, problem: Problem) -> None:
        """The last response of this connection, after those to all requests before."""
        _log.debug("refused: %d %s", problem.status, problem.message)
        self._discarding = True
        self._wait_in(None)
        faulty, self._receiving = self._receiving, None  # the fault is in the body of this one
        if faulty is not None and faulty.response_complete:
            self._finish()
            return
        if faulty is not None and faulty.response_started:
            self.transport.abort()
            return
        if faulty is not None and faulty is self._running:
            self._running = None
            self._send_refusal(problem, faulty)
            return
        if faulty is not None:
            self._pipeline.pop()
        if self._running is None:
            self._send_refusal(problem)
        else:
            self._refusal = problem

    def _send_refusal(self, problem: Problem, request: RequestCycle | None = None) -> None:
        client, asked = client_of(self.transport), self._parser.headers
        self.transport.write(self._shared.refusal(problem, client, request, asked))
        self._finish()

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self._watch_reading()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._shared.stalled.remove(self)
        if self._writable is not None:
            self._writable.set()

    def _watch_reading(self) -> None:
        if unread := count_unread(self.transport, self.plain):
            self._unread = unread
            self._shared.stalled.remove(self)
            self._shared.stalled.add(self)

    async def drain(self) -> None:
        self._writable = self._writable or asyncio.Event()
        while self.is_write_paused:
            self._writable.clear()
            await self._writable.wait()

    # What does not happen in time

    def close_if_silent(self) -> bool:
        if has_unread_bytes(self.transport):
            return False
        self._wait_in(None)
        self.transport.close()
        return True

    def on_head_timeout(self) -> None:
        if self._parser.in_head:
            self._refuse(too_late(self._shared.awaiting_head.seconds))
        else:
            self.transport.close()  # it never sent a byte

    def on_body_timeout(self) -> None:
        self.transport.abort()

    def on_idle_timeout(self) -> None:
        if not self.close_if_silent():
            self._wait_in(self._shared.idle)

    def on_lingering_timeout(self) -> None:
        if self.transport.get_write_buffer_size():
            self._wait_in(self._shared.lingering)  # it still reads; `stalled` says for how long
        else:
            self.transport.abort()

    def on_reading_timeout(self) -> None:
        if count_unread(self.transport, self.plain) > self._unread - self._shared.least_read:
            self.transport.abort()
        else:
            self._watch_reading()
