"""FrontendSession: the engine's side of one frontend. It submits the frontend's calls to the
collector and sends their outcomes back, in one write for each batch. When the frontend is gone, its
requests are withdrawn.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from batcher.client import Entrance, LoopSink, late, shares_equal
from batcher.errors import BatcherError, Cancelled, RunnerFailed
from batcher.plain_data import dedup_key
from batcher.remote.channel import Channel
from batcher.remote.messages import (
    CallFailed,
    FrameError,
    Json,
    Message,
    Settled,
    Submit,
    Withdraw,
    text_of,
)
from batcher.remote.values import Unsendable
from batcher.request import Answer, BatchReport, Outcome, Request

_log = logging.getLogger(__name__)

ReplyTo = tuple[int, int]
"""What a request of a FrontendSession carries: the number of its call, and its index in it."""


class FrontendSession:
    """Of requests that carry a ReplyTo."""

    def __init__(
        self,
        collector: Entrance,
        name: str,
        on_query: Callable[[str], Awaitable[object]] | None = None,
        on_lost: Callable[[FrontendSession], None] | None = None,
    ) -> None:
        """`on_query`: the reply to a query that the collector cannot answer. `on_lost`: the
        frontend is gone, and its requests have been withdrawn."""
        self.name = name
        self._collector = collector
        self._on_query = on_query
        self._on_lost = on_lost
        self._sink = LoopSink(asyncio.get_running_loop(), self._hand_out)
        self._calls: dict[int, list[Request]] = {}  # those without an outcome
        self._missing: dict[int, int] = {}  # outcomes, of calls with several inputs
        self._channel: Channel | None = None
        self._shares = shares_equal(collector.limits)

    async def attach(self, end: socket.socket) -> None:
        """Once."""
        self._channel = Channel(self, self.name, self._collector.clock)
        await self._channel.connect(end)

    async def close(self) -> None:
        """Outcomes that are there are still sent."""
        if self._channel is not None:
            await self._channel.close()

    async def query(self, subject: str, timeout: float) -> Json:
        """Raises NotReady without a reply within `timeout` seconds."""
        assert self._channel is not None, "queried before it was attached: this is a bug"
        return await self._channel.query(subject, timeout)

    # Owner of the channel

    def on_message(self, message: Message) -> None:
        if isinstance(message, Submit):
            self._submit(message)
        elif isinstance(message, Withdraw):
            requests = self._forget(message.call)
            if requests is not None:
                self._collector.withdraw(requests, late() if message.is_late else _gone())
        else:
            raise FrameError(f"{type(message).__name__} is not for the engine")

    async def on_query(self, subject: str) -> object:
        if subject == "snapshot":
            return self._collector.snapshot()
        if subject == "batches":
            return self._collector.recent_batches()
        return None if self._on_query is None else await self._on_query(subject)

    def on_lost(self) -> None:
        calls, self._calls = self._calls, {}
        self._missing.clear()
        orphans = [request for requests in calls.values() for request in requests]
        if orphans:
            self._collector.withdraw(orphans, _gone())
        if self._on_lost is not None:
            self._on_lost(self)

    # Inside

    def _submit(self, call: Submit) -> None:
        number = call.call
        if number in self._calls or len(call.costs) != len(call.payloads):
            raise FrameError("a call that no frontend makes")
        now = self._collector.clock.now()
        caller = None if call.caller is None else text_of(call.caller)
        deadline, priority = call.deadline, call.priority
        sink, shares = self._sink, self._shares
        keys = [dedup_key(payload) if shares else None for payload in call.payloads]
        requests = [
            Request(payload, cost, now, deadline, sink, (number, at), priority, caller, key)
            for at, (payload, cost, key) in enumerate(
                zip(call.payloads, call.costs, keys, strict=True)
            )
        ]
        self._calls[number] = requests
        if len(requests) > 1:
            self._missing[number] = len(requests)
        try:
            self._collector.submit(requests)
        except BatcherError as error:
            self._send_failure(number, error)

    def _hand_out(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        report: BatchReport | None = None
        answers: list[tuple[int, int, Answer]] = []
        for request, outcome in settled:
            reply_to: ReplyTo = request.reply_to  # type: ignore[assignment]  # _submit made it
            number, index = reply_to
            if number not in self._calls:  # withdrawn, or a sibling has failed
                continue
            if isinstance(outcome, BatcherError):
                self._fail(number, outcome)
                continue
            if outcome.batch is not report:
                self._send(answers)
                report, answers = outcome.batch, []
            answers.append((number, index, outcome))
            self._has_one_more(number)
        self._send(answers)
        if self._channel is not None:
            self._channel.flush()  # at once: the batch holds no more of this frontend's

    def _has_one_more(self, number: int) -> None:
        missing = self._missing.get(number, 1) - 1
        if missing:
            self._missing[number] = missing
        else:
            self._forget(number)

    def _send(self, answers: Sequence[tuple[int, int, Answer]]) -> None:
        """Of one batch."""
        if self._channel is None or not answers:
            return
        try:
            self._channel.send(Settled.of(answers))
        except Unsendable as error:
            if len(answers) > 1:  # a value that cannot be sent fails only its own call
                for answer in answers:
                    self._send([answer])
                return
            self._fail(answers[0][0], RunnerFailed(f"the result cannot be returned: {error}"))

    def _fail(self, number: int, error: BatcherError) -> None:
        """Fails the whole call, and withdraws its other inputs."""
        requests = self._send_failure(number, error)
        if requests is not None and len(requests) > 1:
            self._collector.withdraw(requests, _gone())

    def _send_failure(self, number: int, error: BatcherError) -> list[Request] | None:
        if self._channel is not None:
            self._channel.send(CallFailed.of(number, error))
        return self._forget(number)

    def _forget(self, number: int) -> list[Request] | None:
        self._missing.pop(number, None)
        return self._calls.pop(number, None)

    def __repr__(self) -> str:
        return f"<FrontendSession of {self.name}, {len(self._calls)} calls>"


def _gone() -> Cancelled:
    return Cancelled("the caller has gone")
