"""Reception: the engine's side of one front. Its calls go into the collector, and their outcomes
go back in one write for each batch. When the front is gone, so are its requests.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from batcher.collector import Collector
from batcher.errors import BatcherError, Cancelled, DeadlineExceeded, RunnerFailed
from batcher.remote import codec
from batcher.remote.channel import Channel
from batcher.remote.messages import FrameError, Json, Message, Submit, Withdraw
from batcher.remote.told import told_batches, told_snapshot
from batcher.request import LEVELS, Answer, BatchReport, Outcome, Request
from batcher.scheduling.keys import key_of

_log = logging.getLogger(__name__)


class Reception:
    """A Sink: the ticket of each request is its call's number and its place in it."""

    def __init__(
        self,
        collector: Collector,
        name: str,
        asked: Callable[[str], Awaitable[Json]] | None = None,
        on_lost: Callable[[Reception], None] | None = None,
    ) -> None:
        """`asked`: what the front is to be told that asks for what the collector does not know.
        `on_lost`: it has gone, and so have its requests."""
        self.name = name
        self._collector = collector
        self._asked = asked
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, list[Request]] = {}  # whose outcomes the front waits for
        self._missing: dict[int, int] = {}  # outcomes, of calls with several inputs
        self._channel: Channel | None = None
        limits = collector.limits
        self._shares = limits.share_equal or limits.cache_bytes > 0

    async def attach(self, end: socket.socket) -> None:
        """Once."""
        self._channel = Channel(self, self.name, self._collector.clock)
        await self._channel.over(end)

    async def close(self) -> None:
        """Whatever has its outcome is still told."""
        if self._channel is not None:
            await self._channel.close()

    async def ask(self, subject: str, patience: float) -> Json:
        """Raises NotReady where the front does not say within so many seconds."""
        assert self._channel is not None, "asked before it was attached: this is a bug"
        return await self._channel.ask(subject, patience)

    # User of the channel

    def received(self, message: Message) -> None:
        if isinstance(message, Submit):
            self._submit(message)
        elif isinstance(message, Withdraw):
            requests = self._forget(message.call)
            if requests is not None:
                self._collector.withdraw(requests, _late() if message.is_late else _gone())
        else:
            raise FrameError(f"{type(message).__name__} is not for the engine")

    async def asked(self, subject: str) -> Json:
        if subject == "snapshot":
            return told_snapshot(self._collector.snapshot())
        if subject == "batches":
            return told_batches(self._collector.recent_batches())
        return None if self._asked is None else await self._asked(subject)

    def lost(self) -> None:
        calls, self._calls = self._calls, {}
        self._missing.clear()
        orphans = [request for requests in calls.values() for request in requests]
        if orphans:
            self._collector.withdraw(orphans, _gone())
        if self._on_lost is not None:
            self._on_lost(self)

    # Sink

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hand_out, settled)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            _log.warning("%d outcomes came after their event loop had closed", len(settled))

    # Inside

    def _submit(self, call: Submit) -> None:
        number = call.call
        if call.priority >= LEVELS or number in self._calls:
            raise FrameError("a call that no front makes")
        now = self._collector.clock.now()
        requests = [
            Request(
                payload,
                cost,
                now,
                call.deadline,
                self,
                (number, place),
                call.priority,
                call.caller,
                key_of(payload) if self._shares else None,
            )
            for place, (payload, cost) in enumerate(zip(call.payloads, call.costs, strict=True))
        ]
        self._calls[number] = requests
        if len(requests) > 1:
            self._missing[number] = len(requests)
        try:
            self._collector.submit(requests)
        except BatcherError as error:
            self._tell(number, error)

    def _hand_out(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        report: BatchReport | None = None
        entries: list[tuple[int, int, Answer]] = []
        for request, outcome in settled:
            ticket: tuple[int, int] = request.ticket  # type: ignore[assignment]  # _submit made it
            number, place = ticket
            if number not in self._calls:  # withdrawn, or a sibling has failed
                continue
            if isinstance(outcome, BatcherError):
                self._fail(number, outcome)
                continue
            if outcome.batch is not report:
                self._send(entries)
                report, entries = outcome.batch, []
            entries.append((number, place, outcome))
            self._has_one_more(number)
        self._send(entries)
        if self._channel is not None:
            self._channel.flush()  # at once: this is all of the batch that is this front's

    def _has_one_more(self, number: int) -> None:
        missing = self._missing.get(number, 1) - 1
        if missing:
            self._missing[number] = missing
        else:
            self._forget(number)

    def _send(self, entries: Sequence[tuple[int, int, Answer]]) -> None:
        """Of one batch."""
        if self._channel is None or not entries:
            return
        try:
            self._channel.send(codec.settled(entries))
        except FrameError as error:
            if len(entries) > 1:  # the others' values are no matter of the one that cannot travel
                for entry in entries:
                    self._send([entry])
                return
            self._fail(entries[0][0], RunnerFailed(f"the answer cannot be sent: {error}"))

    def _fail(self, number: int, error: BatcherError) -> None:
        """The whole call; its other inputs are for nobody."""
        requests = self._tell(number, error)
        if requests is not None and len(requests) > 1:
            self._collector.withdraw(requests, _gone())

    def _tell(self, number: int, error: BatcherError) -> list[Request] | None:
        """And nothing more will be told of that call."""
        if self._channel is not None:
            self._channel.send(codec.failed(number, error))
        return self._forget(number)

    def _forget(self, number: int) -> list[Request] | None:
        self._missing.pop(number, None)
        return self._calls.pop(number, None)

    def __repr__(self) -> str:
        return f"<Reception of {self.name}, {len(self._calls)} calls>"


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the answer was there")


def _gone() -> Cancelled:
    return Cancelled("the caller has gone")
