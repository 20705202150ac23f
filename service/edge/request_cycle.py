"""One request on its connection, and the answer to it: uvicorn's, with a short way for most.

A body that came whole is handed on without a copy, and a whole answer (WHOLE) leaves in one piece.
All else goes uvicorn's own way, which looks at every header with two regular expressions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.errors import Header
from service.http.exchange import TASK, WHOLE

if TYPE_CHECKING:
    from service.edge.connection import Connection

EXTENSIONS: dict[str, dict[object, object]] = {WHOLE: {}}
"""For the scope: what this server can do beyond ASGI."""

_LARGE = 64 << 10  # bytes; to copy them would cost more than a second system call
_CLOSE = (b"connection", b"close")


class Cycle(RequestResponseCycle):
    # On the class: what most requests never change costs them nothing.
    access_log = False
    disconnected = False
    waiting_for_100_continue = False
    body: bytes | bytearray = b""  # type: ignore[assignment]  # it becomes one when more comes
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0

    def __init__(self, connection: Connection, scope: Any, keep_alive: bool) -> None:
        self.scope = scope
        self.transport = connection.outlet  # type: ignore[assignment]  # it has all that is used
        self.flow = connection.flow
        self.logger = connection.logger
        self.default_headers = connection.server_state.default_headers
        self.message_event = Arrival()  # type: ignore[assignment]  # it has all that is used
        self.on_response = connection.on_response_complete
        self._write = connection.transport.write
        self._default_lines = connection.default_lines
        self.keep_alive = keep_alive
        self._tasks = connection.tasks

    def start(self, app: ASGI3Application, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._run(app))
        self.scope[TASK] = self._task  # type: ignore[literal-required]  # ours, beyond ASGI
        self._tasks.add(self._task)

    async def _run(self, app: ASGI3Application) -> None:
        try:
            await self.run_asgi(app)
        finally:
            # A callback of the task would be one more turn of the event loop for each request.
            self._tasks.discard(self._task)

    def take(self, body: bytes) -> None:
        """One more piece of the body."""
        if not self.body:
            self.body = body
        else:
            if type(self.body) is bytes:
                self.body = bytearray(self.body)
            self.body += body
        self.message_event.set()

    async def receive(self) -> Any:
        is_over = self.disconnected or self.response_complete
        if not self.body or self.more_body or self.waiting_for_100_continue or is_over:
            return await super().receive()
        body, self.body = bytes(self.body), b""
        self.message_event.clear()
        self.flow.resume_reading()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] != WHOLE:
            await super().send(message)
        elif self.response_started or self.flow.write_paused or self.scope["method"] == "HEAD":
            start: Any = {**message, "type": "http.response.start"}
            await super().send(start)
            await super().send({"type": "http.response.body", "body": message["body"]})
        elif not self.disconnected:
            self._answer(message["status"], message["headers"], message["body"])

    def _answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        ours = b"".join([b"%s: %s\r\n" % header for header in headers])
        if not ours.count(b"\r") == ours.count(b"\n") == len(headers):
            raise RuntimeError("a header holds the end of a line: this is a bug")
        closes = _CLOSE in headers
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            ours += b"connection: close\r\n"
        self.response_started = True
        self.waiting_for_100_continue = False
        head = b"".join(
            [STATUS_LINE[status], self._default_lines(self.default_headers), ours, b"\r\n"]
        )
        if len(body) > _LARGE:
            self._write(head)
            self._write(body)
        else:
            self._write(head + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Arrival:
    """What asyncio.Event is to one task that waits, at a fraction of the cost of making one."""

    _has_come = False
    _waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._has_come = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._has_come = False

    async def wait(self) -> None:
        if not self._has_come:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
