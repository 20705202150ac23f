"""A raw keep-alive HTTP/1.1 client: one request at a time on each of as many connections as needed.

It parses answers with httptools and keeps status, Server-Timing and (if asked) the body, so that a
thousand requests a second cost the driver a few per cent of a core beside the server it measures.
"""

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from loadtests.drivers.target import Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `error` is empty exactly when a whole HTTP answer was read."""

    status: int = 0
    timing: bytes = b""
    body: bytes = b""
    error: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()  # Names in lower case; kept with the bodies.


Answered = Callable[[Answer], None]


class Pool:
    """Connections to one target, made on demand, never waited for: a busy pool grows by one.

    Every `send` is answered by exactly one call, with `error` set if the bound on connections is
    reached, the server refuses or closes the connection, or the pool is closed first.
    """

    def __init__(
        self,
        target: Target,
        limit: int = 16_384,
        keep_bodies: bool = False,
        source: str | None = None,  # The address to connect from, such as 127.0.0.2.
        once_more: bool = True,  # When the server closes a used connection without a word.
    ) -> None:
        self._target, self._limit, self.keep_bodies = target, limit, keep_bodies
        self._local = (source, 0) if source else None
        self.once_more = once_more
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()  # Open, busy or free.
        self._free: dict[Connection, None] = {}  # An ordered set, most recently used last.
        self._connecting: set[asyncio.Task[None]] = set()
        _allow_open_files(limit + 256)

    def send(self, request: bytes, answered: Answered) -> None:
        """Returns at once. `answered` is called from the loop when the outcome is known."""
        if self._free:
            self._free.popitem()[0].send(request, answered)
        elif len(self._connections) + len(self._connecting) >= self._limit:
            answered(Answer(error=f"over {self._limit} connections"))
        else:
            self.connect(request, answered)

    def connect(self, request: bytes, answered: Answered) -> None:
        task = self._loop.create_task(self._connect(request, answered))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, request: bytes, answered: Answered) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self),
                self._target.host,
                self._target.port,
                local_addr=self._local,
            )
        except OSError:
            answered(Answer(error="refused"))
        except asyncio.CancelledError:
            answered(Answer(error="closed"))
            raise
        else:
            self._connections.add(connection)
            connection.send(request, answered)

    def release(self, connection: "Connection") -> None:
        self._free[connection] = None

    def forget(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        self._free.pop(connection, None)

    async def close(self) -> None:
        """Close everything; requests still out are answered with an error."""
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)  # One turn of the loop delivers the closings.


class Connection(asyncio.Protocol):
    """One TCP connection with at most one request on it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None  # Set while a request is out.
        self._request = b""
        self._used = (
            False  # A whole answer came back earlier: the server may close it for idleness.
        )
        self._silent = True  # No byte of this answer yet.
        self._timing = b""
        self._body: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []

    def send(self, request: bytes, answered: Answered) -> None:
        assert self._answered is None, "two requests on one connection: this is a bug"
        assert self._transport is not None, "sent before it was connected: this is a bug"
        self._request, self._answered = request, answered
        self._silent, self._timing = True, b""
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # The loop calls these.
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, not a subclass.

    def data_received(self, data: bytes) -> None:
        self._silent = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._settle(Answer(error="malformed answer"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self._answered is not None and self._used and self._silent and self._pool.once_more:
            # The server closed an idle connection as we wrote; nothing was read. Once more, afresh.
            answered, self._answered = self._answered, None
            self._pool.connect(self._request, answered)
        else:
            self._settle(Answer(error="closed"))

    # The parser calls these.
    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"server-timing":
            self._timing = value
        if self._pool.keep_bodies:
            self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        if self._pool.keep_bodies:
            self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        headers, self._headers = tuple(self._headers), []
        answer = Answer(self._parser.get_status_code(), self._timing, body, headers=headers)
        answered, self._answered, self._used = self._answered, None, True
        if self._parser.should_keep_alive():
            self._pool.release(self)  # First, so that a caller that sends again at once reuses it.
        else:
            self.close()
        if answered is not None:
            answered(answer)

    def _settle(self, answer: Answer) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
