"""RemoteClient: the engine of another process, from one event loop. The same calls as LocalClient.

It is given a connected socket, and another one once that engine has died and the next has started.
Until it has one, and in between, every call is refused at once with NotReady.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable

from batcher.client import Call, Client, PendingCall
from batcher.clock import Clock
from batcher.errors import BatcherError, InvalidPayload, NotReady, Overloaded
from batcher.remote.channel import Channel
from batcher.remote.messages import (
    CallFailed,
    FrameError,
    Json,
    Message,
    Settled,
    Submit,
    Withdraw,
    batches_from,
    bytes_of,
    snapshot_from,
)
from batcher.remote.values import Unsendable, pack
from batcher.request import Answer, BatchReport
from batcher.snapshot import Snapshot
from batcher.timeouts import Deadlines

_QUERY_TIMEOUT = 2.0  # seconds
_RETRY = 1.0  # seconds; how long a model takes to load is not known


class RemoteClient(Client):
    def __init__(
        self,
        clock: Clock,
        request_timeout: float,
        on_query: Callable[[str], Awaitable[object]] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """`on_query`: the reply to a query of the engine's. `on_lost`: the engine is gone; the
        calls that wait for it fail after this."""
        self._clock = clock
        self._request_timeout = request_timeout
        self._on_query = on_query
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop, clock)
        self._numbers = itertools.count(1)  # never used again, whichever engine it was for
        self._calls: dict[int, PendingCall] = {}  # each has no outcome yet
        self._channel: Channel | None = None

    async def attach(self, end: socket.socket) -> None:
        """Reaches the engine through `end` from now on."""
        await self.close()
        self._channel = Channel(self, "the engine", self._clock)
        await self._channel.connect(end)

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    # Client

    async def send(self, call: Call) -> list[Answer]:
        if not call.payloads:
            return []
        now = self._clock.now()
        costs, deadline = call.checked(now, self._request_timeout)
        channel = self._open()
        if channel.write_paused:
            raise Overloaded("the engine is not keeping up with its frontends", _RETRY)
        number = next(self._numbers)
        caller = None if call.caller is None else bytes_of(call.caller)
        try:
            payloads = [pack(payload) for payload in call.payloads]
            channel.send(Submit(number, deadline, call.priority, caller, list(costs), payloads))
        except Unsendable as error:
            raise InvalidPayload(f"the input cannot be submitted: {error}") from None
        pending = self._calls[number] = PendingCall(self._loop, len(payloads), deadline)
        self._deadlines.watch(pending, now)
        try:
            return await pending.future
        except (asyncio.CancelledError, BatcherError):
            self._withdraw(number, pending.is_late)
            raise
        finally:
            self._deadlines.ended(pending)
            self._calls.pop(number, None)
            del pending  # breaks the cycle of an exception and this frame

    async def snapshot(self) -> Snapshot:
        """Raises NotReady while there is no engine, or it does not answer."""
        return snapshot_from(await self.query("snapshot"))

    async def recent_batches(self) -> list[BatchReport]:
        """See Client.recent_batches. Raises NotReady."""
        return batches_from(await self.query("batches"))

    async def query(self, subject: str) -> Json:
        """What the engine's process replies to it. Raises NotReady."""
        return await self._open().query(subject, _QUERY_TIMEOUT)

    # Owner of the channel

    def on_message(self, message: Message) -> None:
        calls = self._calls
        if isinstance(message, Settled):
            for number, index, answer in message.answers():
                call = calls.get(number)  # None: it has been withdrawn
                if call is not None:
                    call.settle(index, answer)
        elif isinstance(message, CallFailed):
            call = calls.pop(message.call, None)
            if call is not None:
                call.settle(0, message.error())
        else:
            raise FrameError(f"{type(message).__name__} is not for a frontend")

    async def on_query(self, subject: str) -> object:
        return None if self._on_query is None else await self._on_query(subject)

    def on_lost(self) -> None:
        """What is in flight may have run or not: its callers are asked to try again."""
        if self._on_lost is not None:
            self._on_lost()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.settle(0, NotReady("the engine died while it had this request", _RETRY))

    def __repr__(self) -> str:
        return f"<RemoteClient {len(self._calls)} in flight, {self._channel!r}>"

    # Inside

    def _open(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            raise NotReady("the engine is starting", _RETRY)
        return self._channel

    def _withdraw(self, number: int, is_late: bool) -> None:
        if self._calls.pop(number, None) is not None and self._channel is not None:
            self._channel.send(Withdraw(number, is_late))
