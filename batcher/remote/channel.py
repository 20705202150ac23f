"""One end of the wire between a front and the engine, on an event loop: frames in and out.

What is sent within one tick of the loop leaves in one write, or in one for each millisecond that
the tick lasts. Either side may ask the other, and is told. Knows nothing of what a call is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from typing import Any, Protocol

from batcher.clock import Clock
from batcher.errors import NotReady
from batcher.remote import codec
from batcher.remote.messages import Ask, FrameError, Hello, Json, Message, Told
from batcher.remote.reader import Reader

_log = logging.getLogger(__name__)
_PATIENCE = 2.0  # seconds for what is left to be read, at the end
# Seconds that a frame waits for the rest of its tick. When a batch's callers come back together,
# the last of them is parsed 10 ms after the first: all held until then, they come too late for the
# engine to see that they come straight back, and half batches run beside a busy front on its cores.
_HOLD = 0.001
_MOST_UNREAD = 32 << 20  # bytes that may wait for the other side to read them


class User(Protocol):
    """Whose end it is. All of these are called on the event loop."""

    def received(self, message: Message) -> None: ...

    async def asked(self, subject: str) -> Json:
        """What the other side is to be told; whatever it raises is logged and tells nothing."""

    def lost(self) -> None:
        """Once, whoever closed it: nothing comes after it, and what is sent goes nowhere."""


class Channel(asyncio.Protocol):
    def __init__(self, user: User, name: str, clock: Clock) -> None:
        self.name = name
        self.is_open = False
        self.is_stuck = False  # the other side does not read
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._now = clock.now
        self._unsent: list[bytes] = []
        self._held_since = 0.0  # of the first that is unsent
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._ended = self._loop.create_future()

    async def over(self, end: socket.socket) -> None:
        """`end` is one of a connected pair, and the channel's from now on. What has been sent to it
        already is received before this returns."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def send(self, frame: bytes) -> None:
        """With whatever else is sent in this tick and within a millisecond. Dropped where nobody is
        there any more."""
        unsent = self._unsent
        unsent.append(frame)
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

    async def ask(self, subject: str, patience: float) -> Json:
        """Raises NotReady where nothing is told within `patience` seconds."""
        number = next(self._numbers)
        future = self._asked[number] = self._loop.create_future()
        try:
            if not self.is_open:
                raise _gone(self.name)
            self.send(codec.ask(number, subject))
            async with asyncio.timeout(patience):
                return await future
        except TimeoutError:
            raise NotReady(f"{self.name} does not answer", retry_after=1.0) from None
        finally:
            del self._asked[number], future

    async def close(self) -> None:
        """What has been sent still leaves, if the other side reads it soon."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self._ended], timeout=_PATIENCE)
            self._transport.abort()
            await asyncio.wait([self._ended])

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both_ways: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no class of these
        both_ways.set_write_buffer_limits(high=_MOST_UNREAD)
        both_ways.write(codec.hello())
        self._transport = both_ways
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except FrameError as error:
            _log.error("%s sent what cannot be read, and is cut off: %s", self.name, error)
            self._abort()

    def pause_writing(self) -> None:
        self.is_stuck = True

    def resume_writing(self) -> None:
        self.is_stuck = False

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_open = False
        for future in self._asked.values():
            if not future.done():
                future.set_exception(_gone(self.name))
        for task in self._answering:
            task.cancel()
        self._user.lost()
        self._ended.set_result(None)

    # Inside

    def _take(self, message: Message) -> None:
        if isinstance(message, Told):
            future = self._asked.get(message.number)  # None: it took too long
            if future is not None and not future.done():
                future.set_result(message.value)
        elif isinstance(message, Ask):
            task = self._loop.create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif not isinstance(message, Hello):
            self._user.received(message)

    async def _answer(self, question: Ask) -> None:
        try:
            value: Any = await self._user.asked(question.subject)
            self.send(codec.told(question.number, value))
        except Exception:
            _log.exception("%s asked for %r, in vain", self.name, question.subject)

    def _abort(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def __repr__(self) -> str:
        return f"<Channel to {self.name}, {'open' if self.is_open else 'closed'}>"


def _gone(name: str) -> NotReady:
    return NotReady(f"{name} has ended; it is being started again", retry_after=1.0)
