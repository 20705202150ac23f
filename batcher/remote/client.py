"""RemoteClient: the engine of another process, from one event loop. The same calls as LocalClient.

It is handed a connected socket, and another one when that engine has died and the next is there.
In between, and while nothing has been handed to it, every call is refused at once with NotReady.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Sequence

from batcher.client import Client, check
from batcher.clock import Clock
from batcher.errors import BatcherError, NotReady, Overloaded, RunnerFailed
from batcher.futures import PendingCall
from batcher.remote import codec
from batcher.remote.channel import Channel
from batcher.remote.messages import Failed, FrameError, Json, Message, Settled, Submit
from batcher.remote.told import batches_from, snapshot_from
from batcher.request import Answer, BatchReport, Payload
from batcher.snapshot import Snapshot
from batcher.timeouts import Deadlines

_PATIENCE = 2.0  # seconds for the engine to say how it is
_RETRY = 1.0  # seconds; nobody knows how long a model takes to load


class RemoteClient(Client):
    def __init__(
        self,
        clock: Clock,
        request_timeout: float,
        asked: Callable[[str], Awaitable[Json]] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """`asked`: what the engine is to be told when it wants to know something. `on_lost`: it has
        gone, and those who wait for it are not told yet."""
        self._clock = clock
        self._request_timeout = request_timeout
        self._asked = asked
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop, clock)
        self._numbers = itertools.count(1)  # never used again, whichever engine it was for
        self._calls: dict[int, PendingCall] = {}  # each has no outcome yet
        self._channel: Channel | None = None

    async def attach(self, end: socket.socket) -> None:
        """This is the way to the engine from now on."""
        await self.close()
        self._channel = Channel(self, "the engine", self._clock)
        await self._channel.over(end)

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    # Client

    async def submit_all(
        self,
        payloads: Sequence[Payload],
        *,
        costs: Sequence[int] | None = None,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> list[Answer]:
        """See Client.submit_all. Raises RunnerFailed for a payload that cannot travel."""
        if not payloads:
            return []
        count = len(payloads)
        now = self._clock.now()
        if deadline is None:
            deadline = now + self._request_timeout
        if costs is None:
            costs = [1] * count
        if len(costs) != count:
            raise ValueError(f"{len(costs)} costs for {count} payloads")
        check(costs, deadline, priority, now)
        channel = self._open()
        if channel.is_stuck:
            raise Overloaded("the engine does not keep up with what it is sent", _RETRY)
        number = next(self._numbers)
        try:
            frame = codec.submit(Submit(number, deadline, priority, caller, costs, payloads))
        except FrameError as error:
            raise RunnerFailed(f"the input cannot be sent to the engine: {error}") from None
        call = self._calls[number] = PendingCall(self._loop, count, deadline)
        channel.send(frame)
        self._deadlines.watch(call, now)
        try:
            return await call.future
        except (asyncio.CancelledError, BatcherError):
            self._withdraw(number, call.is_late)
            raise
        finally:
            self._deadlines.ended(call)
            self._calls.pop(number, None)
            del call  # breaks the cycle of an exception and this frame

    async def snapshot(self) -> Snapshot:
        """Raises NotReady while there is no engine, or it does not answer."""
        return snapshot_from(await self.ask("snapshot"))

    async def recent_batches(self) -> list[BatchReport]:
        """See Client.recent_batches. Raises NotReady."""
        return batches_from(await self.ask("batches"))

    async def ask(self, subject: str) -> Json:
        """Whatever the engine's process has to say of it. Raises NotReady."""
        return await self._open().ask(subject, _PATIENCE)

    # User of the channel

    def received(self, message: Message) -> None:
        calls = self._calls
        if isinstance(message, Settled):
            for number, place, answer in message.entries:
                call = calls.get(number)  # None: it has been withdrawn
                if call is not None:
                    call.settle(place, answer)
        elif isinstance(message, Failed):
            call = calls.pop(message.call, None)
            if call is not None:
                call.settle(0, message.error)
        else:
            raise FrameError(f"{type(message).__name__} is not for a front")

    async def asked(self, subject: str) -> Json:
        return None if self._asked is None else await self._asked(subject)

    def lost(self) -> None:
        """What is in flight may have run or not: the caller is told to come again."""
        if self._on_lost is not None:
            self._on_lost()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.settle(0, NotReady("the engine was lost while it had this request", _RETRY))

    def __repr__(self) -> str:
        return f"<RemoteClient {len(self._calls)} in flight, {self._channel!r}>"

    # Inside

    def _open(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            raise NotReady("the engine is being started", _RETRY)
        return self._channel

    def _withdraw(self, number: int, is_late: bool) -> None:
        if self._calls.pop(number, None) is not None and self._channel is not None:
            self._channel.send(codec.withdraw(number, is_late))
