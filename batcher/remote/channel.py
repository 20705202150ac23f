"""Channel: one end of the socket between a frontend and the engine, on an event loop.

What is sent within one turn of the loop leaves in one write, or in one for each millisecond that
the turn lasts. Either side may query the other. It knows frames, and nothing of calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from typing import Protocol

from batcher.clock import Clock
from batcher.errors import NotReady
from batcher.remote.codec import FrameReader, encode
from batcher.remote.messages import FrameError, Hello, Json, Message, Query, Reply

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT = 2.0  # seconds for the other side to read what is left
# Seconds that a frame waits for the rest of its turn. When a batch's callers come back together,
# the last of them is parsed 10 ms after the first: all held until then, they come too late for the
# engine to see that they come straight back, and half batches run beside a busy frontend on its
# cores.
_HOLD = 0.001
_MAX_UNREAD = 32 << 20  # bytes that may wait for the other side to read them


class Owner(Protocol):
    """Of a channel. All of these are called on the event loop."""

    def on_message(self, message: Message) -> None:
        """Raises FrameError for one that this side does not take: the channel is then cut."""

    async def on_query(self, subject: str) -> object:
        """The reply, as JSON or dataclasses. What it raises is logged, and there is no reply."""

    def on_lost(self) -> None:
        """The last call, once, whichever side closed it. What is sent later is dropped."""


class Channel(asyncio.Protocol):
    def __init__(self, owner: Owner, peer: str, clock: Clock) -> None:
        self.peer = peer
        self.is_open = False
        self.write_paused = False  # the other side does not read
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._now = clock.now
        self._unsent: list[bytearray] = []
        self._held_since = 0.0  # the time of the first that is unsent
        self._numbers = itertools.count(1)
        self._queries: dict[int, asyncio.Future[Json]] = {}
        self._replying: set[asyncio.Task[None]] = set()
        self._ended = self._loop.create_future()

    async def connect(self, end: socket.socket) -> None:
        """`end` is one of a socketpair, and from now on the channel's own. What the other side has
        sent already is received before this returns."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def send(self, message: Message) -> None:
        """With what else is sent in this turn and within a millisecond. Dropped if the channel is
        closed. Raises Unsendable if it does not fit in a frame."""
        unsent = self._unsent
        unsent.append(encode(message))
        if len(unsent) == 1:
            self._held_since = self._now()
            self._loop.call_soon(self.flush)
        elif self._now() - self._held_since >= _HOLD:
            self.flush()

    def flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or self._transport is None or not self.is_open:
            return
        self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    async def query(self, subject: str, timeout: float) -> Json:
        """Raises NotReady without a reply within `timeout` seconds."""
        number = next(self._numbers)
        future = self._queries[number] = self._loop.create_future()
        try:
            if not self.is_open:
                raise _gone(self.peer)
            self.send(Query(number, subject))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise NotReady(f"{self.peer} does not answer", retry_after=1.0) from None
        finally:
            del self._queries[number], future

    async def close(self) -> None:
        """What has been sent still leaves, if the other side reads it soon."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self._ended], timeout=_CLOSE_TIMEOUT)
            self._transport.abort()
            await asyncio.wait([self._ended])

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both_ways: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no class of these
        both_ways.set_write_buffer_limits(high=_MAX_UNREAD)
        both_ways.write(encode(Hello()))
        self._transport = both_ways
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except FrameError as error:
            _log.error("%s sent a malformed message; closing its connection: %s", self.peer, error)
            self._abort()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_open = False
        for future in self._queries.values():
            if not future.done():
                future.set_exception(_gone(self.peer))
        for task in self._replying:
            task.cancel()
        self._owner.on_lost()
        self._ended.set_result(None)

    # Inside

    def _take(self, message: Message) -> None:
        if isinstance(message, Reply):
            future = self._queries.get(message.number)  # None: it came too late
            if future is not None and not future.done():
                future.set_result(message.value())
        elif isinstance(message, Query):
            task = self._loop.create_task(self._reply(message))
            self._replying.add(task)
            task.add_done_callback(self._replying.discard)
        elif not isinstance(message, Hello):
            self._owner.on_message(message)

    async def _reply(self, query: Query) -> None:
        try:
            self.send(Reply.of(query.number, await self._owner.on_query(query.subject)))
        except Exception:
            _log.exception("%s asked for %r and gets no reply", self.peer, query.subject)

    def _abort(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def __repr__(self) -> str:
        return f"<Channel to {self.peer}, {'open' if self.is_open else 'closed'}>"


def _gone(peer: str) -> NotReady:
    return NotReady(f"{peer} has exited; it is being restarted", retry_after=1.0)
