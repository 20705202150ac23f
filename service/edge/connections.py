"""All connections of one HTTP process: what each waits for and how long it may, and how many there
may be."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from batcher.timeouts import TimeoutQueue
from service.api import tei
from service.edge.hangups import Hangups
from service.errors import Problem, outcome_of
from service.http.exchange import RECEIPT_TIMEOUT
from service.observability.prometheus import Tally

if TYPE_CHECKING:
    from service.edge.connection import Connection

_SILENT = 1.0  # seconds; who connects and says nothing for so long may have to go for another
_MAX_LEAVING = 64
_LOOKS = 8  # idle connections that are looked at, at most


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a connection may take over each step."""

    receipt: float = RECEIPT_TIMEOUT  # of a head; and of what is left of a body, once answered
    reading: float = 10.0  # of the client reading nothing at all of its answer
    idle: float = 75.0  # between requests; longer than the idle time of usual load balancers
    leaving: float = 2.0  # for the client to close, once we have


class Connections:
    """While its request runs a connection is in none of these, else in one; `stalled` is aside."""

    def __init__(self, tally: Tally, bound: int, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self.bound = bound
        self.heads: TimeoutQueue[Connection] = TimeoutQueue(patience.receipt, _end_of_head)
        self.rests: TimeoutQueue[Connection] = TimeoutQueue(patience.receipt, _abort)
        self.idle: TimeoutQueue[Connection] = TimeoutQueue(patience.idle, self._end_of_idle)
        self.leaving: TimeoutQueue[Connection] = TimeoutQueue(
            patience.leaving, self._end_of_leaving
        )
        self.stalled: TimeoutQueue[Connection] = TimeoutQueue(patience.reading, _end_of_reading)
        self.hangups = Hangups()
        self._tally = tally
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""  # the same, as they are written

    def make_room(self) -> bool:
        """For one more: who has been idle for longest leaves. False: nobody can. O(1)."""
        for _ in range(_LOOKS):
            found = self.idle.oldest()
            if found is None:
                break
            if self._dismiss(found):
                return True
            self.idle.remove(found)
            self.idle.add(found)
        silent = self.heads.oldest(at_least=_SILENT)
        return silent is not None and self._dismiss(silent)

    def may_linger(self) -> bool:
        """Those that were refused for want of room must not take it."""
        return len(self.leaving) < min(_MAX_LEAVING, self.bound // 4)

    def close_idle(self) -> None:
        """All that are between two requests, but for those whose next one is here already; and all
        that have never sent one though they had the time."""
        for connection in self.idle.all():
            self._dismiss(connection)
        while (silent := self.heads.oldest(at_least=_SILENT)) and self._dismiss(silent):
            pass

    def newcomers_wait(self) -> float:
        """Seconds, if there are any whose request is still to come."""
        return _SILENT if len(self.heads) else 0.0

    def forget(self, connection: Connection) -> None:
        for state in (self.heads, self.rests, self.idle, self.leaving):
            state.remove(connection)

    def default_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head's lines for them. uvicorn makes a new list once a second, for the date."""
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join([b"%s: %s\r\n" % header for header in headers])
        return self._default_lines

    def refusal(self, problem: Problem) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of an answer to what is no request, so that no route has it."""
        request_id = os.urandom(8).hex()
        self._tally.observe("", outcome_of(problem.status), 0.0)
        body = orjson.dumps(tei.envelope(problem, request_id))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *problem.headers(),
        ]
        return headers, body

    def _dismiss(self, connection: Connection) -> bool:
        if _has_sent(connection):
            return False
        self.forget(connection)
        connection.transport.close()
        return True

    def _end_of_idle(self, connection: Connection) -> None:
        if not self._dismiss(connection):
            self.idle.add(connection)

    def _end_of_leaving(self, connection: Connection) -> None:
        if connection.transport.get_write_buffer_size():
            self.leaving.add(connection)  # still reading: how long it may is for `stalled` to say
        else:
            connection.transport.abort()


def _has_sent(connection: Connection) -> bool:
    """Whether there are bytes of it that the event loop has not come to yet."""
    peer = connection.transport.get_extra_info("socket")
    try:
        with socket.socket(fileno=os.dup(peer.fileno())) as plain:
            return bool(plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # nothing, or nobody, or no descriptor to look with
        return False


def _end_of_head(connection: Connection) -> None:
    connection.head_is_late()


def _end_of_reading(connection: Connection) -> None:
    connection.reading_is_due()


def _abort(connection: Connection) -> None:
    connection.transport.abort()
