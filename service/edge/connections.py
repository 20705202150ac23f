"""All connections of one HTTP process: how many there may be, and how long each may take."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from batcher.timeouts import TimeoutQueue
from service.edge.request_cycle import RequestCycle, first_lines
from service.errors import Envelope, Header, Problem
from service.http.cors import headers_of_refusal
from service.http.supervision import RECEIPT_TIMEOUT

_SILENT_AFTER = 1.0  # seconds; a connection without a first byte for so long may be evicted
_SLOWEST_READER = 4 << 10  # bytes a second, once the kernel keeps no more of what is sent
_MAX_LINGERING = 64
_MAX_TRIES = 8  # idle connections that are looked at to evict one


@dataclass(frozen=True, slots=True)
class ConnectionTimeouts:
    """In seconds."""

    receipt: float = RECEIPT_TIMEOUT  # of a head; of the rest of a body that nobody reads
    reading: float = 10.0  # in which the client reads next to nothing of its response
    idle: float = 130.0  # between requests
    lingering: float = 2.0  # for the client to close, once the server has


class Arriving(Protocol):
    """A connection whose first bytes, or those of the next request, are to come."""

    def close_if_silent(self) -> bool:
        """Returns False if bytes have arrived on it: it stays open for them."""

    def on_head_timeout(self) -> None: ...


class TimedConnection(Arriving, Protocol):
    """A connection, as its timeouts see it."""

    def on_body_timeout(self) -> None: ...

    def on_idle_timeout(self) -> None: ...

    def on_lingering_timeout(self) -> None: ...

    def on_reading_timeout(self) -> None: ...


Queue = TimeoutQueue[TimedConnection] | TimeoutQueue[Arriving]


class ServerState(Protocol):
    """What we use of uvicorn's, which all connections of a server share."""

    connections: set[Any]  # ours; uvicorn calls `shutdown` of each as it ends, and waits for them
    tasks: set[asyncio.Task[None]]  # that uvicorn waits for after that


class Connections:
    """A connection is in one of the queues, or in none while its request runs; `stalled` apart."""

    def __init__(
        self,
        max_connections: int,
        timeouts: ConnectionTimeouts,
        envelope_of: Callable[[str], Envelope],
        on_refusal: Callable[[Problem, str, str], object],
        state: ServerState,
        cors_origins: Sequence[str] = (),
    ) -> None:
        """`on_refusal(problem, request id, client)` counts and logs an answer given here."""
        queue = TimeoutQueue[TimedConnection]
        self.awaiting_head = TimeoutQueue[Arriving](
            timeouts.receipt, lambda each: each.on_head_timeout()
        )
        self.draining_body = queue(timeouts.receipt, lambda each: each.on_body_timeout())
        self.idle = queue(timeouts.idle, lambda each: each.on_idle_timeout())
        self.lingering = queue(timeouts.lingering, lambda each: each.on_lingering_timeout())
        self.stalled = queue(timeouts.reading, lambda each: each.on_reading_timeout())
        # Bytes of an answer that a client reads in that time, if it is to read the rest.
        self.least_read = max(1, int(_SLOWEST_READER * timeouts.reading))
        self.hangups = HangupWatch()
        self.state = state
        self.max_connections = max_connections
        self._envelope = envelope_of("")  # what cannot be parsed has no path
        self._on_refusal = on_refusal
        self._cors_origins = cors_origins

    def evict_idle(self) -> bool:
        """Closes the connection that has been idle for longest. False: none is. O(1)."""
        for _ in range(_MAX_TRIES):
            oldest = self.idle.oldest()
            if oldest is None:
                break
            if oldest.close_if_silent():
                return True
            self.idle.remove(oldest)
            self.idle.add(oldest)
        silent = self.awaiting_head.oldest(at_least=_SILENT_AFTER)
        return silent is not None and silent.close_if_silent()

    def may_linger(self) -> bool:
        """Bounded, so that refused connections do not take the room that they were refused."""
        return len(self.lingering) < min(_MAX_LINGERING, self.max_connections // 4)

    def close_idle(self) -> None:
        """Those between two requests, and those that have not begun their first in time. Not those
        whose next request has arrived already."""
        for connection in self.idle.all():
            connection.close_if_silent()
        while (silent := self.awaiting_head.oldest(_SILENT_AFTER)) and silent.close_if_silent():
            pass

    def grace(self) -> float:
        """Seconds in which new connections may still send their first request."""
        return _SILENT_AFTER if len(self.awaiting_head) else 0.0

    def refusal(
        self,
        problem: Problem,
        client: str,
        request: RequestCycle | None,
        asked: Sequence[Header],
    ) -> bytes:
        """The whole response to what is no HTTP. The last one of its connection. `client`: its
        address. `request`: the one that runs and is at fault, which is logged with its route.
        `asked`: the headers of the last head, as far as it has been read."""
        if request is None:
            request_id = self.count_refusal(problem, client)
        else:
            request_id = os.urandom(8).hex()
            request.refuse(problem, request_id)
        body = orjson.dumps(self._envelope(problem, request_id))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *problem.headers(),
            *headers_of_refusal(self._cors_origins, asked),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        return b"".join([first_lines(problem.status), *lines, b"\r\n", body])

    def count_refusal(self, problem: Problem, client: str) -> str:
        """Returns the id that it has in the log."""
        request_id = os.urandom(8).hex()
        self._on_refusal(problem, request_id, client)
        return request_id


class HangupWatch:
    """Notices that a client which has sent its last byte has also stopped reading.

    A client that has closed and one that has only ended its sending look the same until something
    is sent. The kernel of a closed one then resets the connection, but an event loop that expects
    no more bytes does not look.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None  # opened at first use, on the loop that runs then
        self._on_hangup: dict[int, Callable[[], None]] = {}

    def add(self, descriptor: int, on_hangup: Callable[[], None]) -> None:
        """Calls `on_hangup` once, if the peer resets the connection."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_events)
        self._on_hangup[descriptor] = on_hangup
        # No event is asked for: errors and hang-ups are always reported, and here only once.
        self._epoll.register(descriptor, select.EPOLLONESHOT)

    def remove(self, descriptor: int) -> None:
        """Before the descriptor is closed: its number will be another connection's."""
        if self._epoll is not None and self._on_hangup.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _on_events(self) -> None:
        assert self._epoll is not None, "watched without an epoll: this is a bug"
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in self._on_hangup:
                self._on_hangup[descriptor]()
