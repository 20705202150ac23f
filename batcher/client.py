"""How a caller reaches the engine: submit, and wait for the answer on its own event loop.

One wake-up per event loop per batch, whatever the batch's size.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from batcher.clock import Clock
from batcher.errors import BatcherError, Cancelled, DeadlineExceeded, InvalidPayload, RunnerFailed
from batcher.limits import Limits
from batcher.plain_data import dedup_key, refusal
from batcher.request import LEVELS, Answer, BatchReport, Outcome, Payload, Request
from batcher.snapshot import Snapshot
from batcher.timeouts import Deadlines

_log = logging.getLogger(__name__)
_LEVELS = range(LEVELS)


class Call(NamedTuple):
    """What a caller asks for: see Client.submit_all."""

    payloads: Sequence[Payload]
    costs: Sequence[int] | None = None
    deadline: float | None = None
    priority: int = 3
    caller: str | None = None

    def checked(self, now: float, request_timeout: float) -> tuple[Sequence[int], float]:
        """Its costs and its deadline, the defaults filled in. Raises DeadlineExceeded, ValueError.
        It has a payload."""
        count = len(self.payloads)
        _, costs, deadline, _, _ = self
        if costs is None:
            costs = [1] * count
        if deadline is None:
            deadline = now + request_timeout
        if not deadline > now:  # nor is NaN
            raise DeadlineExceeded("the deadline had passed before the request was submitted")
        if type(self.priority) is not int or self.priority not in _LEVELS:
            raise ValueError(f"priority must be from 0 to {LEVELS - 1}, not {self.priority!r}")
        if len(costs) != count:
            raise ValueError(f"{len(costs)} costs for {count} payloads")
        for cost in costs:  # no other kind of number crosses to an engine elsewhere
            if type(cost) is not int or cost < 1:
                raise ValueError(f"a cost must be a whole number of tokens from 1, not {cost!r}")
        return costs, deadline


class Client(Protocol):
    async def submit(
        self,
        payload: Payload,
        *,
        cost: int = 1,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> Any:
        """The result for one payload. See submit_all."""
        answers = await self.send(Call([payload], [cost], deadline, priority, caller))
        return answers[0].value

    def submit_all(  # not async: a coroutine less for each call
        self,
        payloads: Sequence[Payload],
        *,
        costs: Sequence[int] | None = None,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> Coroutine[Any, Any, list[Answer]]:
        """One answer per payload, in order; all are admitted or none.

        `costs` are in tokens (1 each if not given), `deadline` is absolute on the engine's clock,
        `priority` 0 (soonest) to 7 (from 4 on it is bulk, which fills what the others leave);
        `caller` is whose share of the queue this is taken from, and takes turns with the others of
        its priority (None: nobody in particular). Payloads and values are plain data (see
        plain_data): another payload raises InvalidPayload before anything is queued, and another
        result fails the call. Raises Refused when nothing was accepted, and otherwise the first
        error among the requests; their siblings are then withdrawn. Cancelling the awaiting task
        withdraws them all.
        """
        return self.send(Call(payloads, costs, deadline, priority, caller))

    async def send(self, call: Call) -> list[Answer]:
        """See submit_all."""

    async def snapshot(self) -> Snapshot: ...

    async def recent_batches(self) -> list[BatchReport]:
        """The last few thousand, newest last."""


class Entrance(Protocol):
    """Where calls come into the engine: its collector, or the first of its stages. From any
    thread."""

    clock: Clock
    limits: Limits

    def submit(self, requests: Sequence[Request]) -> None:
        """See Collector.submit."""

    def withdraw(self, requests: Sequence[Request], why: BatcherError) -> None:
        """See Collector.withdraw."""

    def snapshot(self) -> Snapshot: ...

    def recent_batches(self) -> list[BatchReport]: ...


class LocalClient(Client):
    """The engine in this process, from one event loop."""

    def __init__(
        self,
        collector: Entrance,
        loop: asyncio.AbstractEventLoop,
        request_timeout: float,
        *,
        any_value: bool = False,
    ) -> None:
        """`any_value`: take and return what is not plain data, too. RemoteClient does not."""
        self._collector = collector
        self._loop = loop
        self._request_timeout = request_timeout
        self._any_value = any_value
        self._sink = LoopSink(loop, hand_out)
        self._deadlines = Deadlines(loop, collector.clock)
        self._shares = shares_equal(collector.limits)

    async def send(self, call: Call) -> list[Answer]:
        if not call.payloads:
            return []
        now = self._collector.clock.now()
        costs, deadline = call.checked(now, self._request_timeout)
        keys: list[Hashable | None] = []
        for payload in call.payloads:
            if not self._any_value and (why := refusal(payload)) is not None:
                raise InvalidPayload(f"the input cannot be submitted: {why}")
            keys.append(dedup_key(payload) if self._shares else None)
        pending = PendingCall(self._loop, len(costs), deadline)
        priority, caller, sink = call.priority, call.caller, self._sink
        requests = [
            Request(payload, cost, now, deadline, sink, (pending, at), priority, caller, key)
            for at, (payload, cost, key) in enumerate(zip(call.payloads, costs, keys, strict=True))
        ]
        self._collector.submit(requests)
        self._deadlines.watch(pending, now)
        try:
            answers = await pending.future
            if not self._any_value:
                for answer in answers:
                    if (why := refusal(answer.value)) is not None:
                        raise RunnerFailed(f"the result cannot be returned: {why}")
            return answers
        except (asyncio.CancelledError, BatcherError):
            reason = late() if pending.is_late else Cancelled("the caller has gone")
            self._collector.withdraw(requests, reason)
            raise
        finally:
            self._deadlines.ended(pending)
            del pending, requests  # breaks the cycle of an exception and this frame

    async def snapshot(self) -> Snapshot:
        return self._collector.snapshot()

    async def recent_batches(self) -> list[BatchReport]:
        return self._collector.recent_batches()


def shares_equal(limits: Limits) -> bool:
    """Is it of use to find equal payloads?"""
    return limits.share_equal or limits.cache_bytes > 0


class PendingCall:
    """What one caller waits for: the answers to `size` requests, or the first error among them."""

    __slots__ = ("_answers", "_missing", "deadline", "future", "is_late")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, deadline: float) -> None:
        self.future: asyncio.Future[list[Answer]] = loop.create_future()
        self.deadline = deadline  # absolute, on the engine's clock
        self.is_late = False  # it has failed because its deadline has passed
        self._missing = size
        # Most bring one, and need no list.
        self._answers: list[Answer | None] | None = [None] * size if size > 1 else None

    def expire(self) -> None:
        """Its deadline has passed."""
        if not self.future.done():
            self.is_late = True
            self.future.set_exception(late())

    def settle(self, index: int, outcome: Outcome) -> None:
        if self.future.done():  # the caller has gone, or a sibling has failed already
            return
        if isinstance(outcome, BatcherError):
            self.future.set_exception(outcome)
            return
        if self._answers is None:
            self.future.set_result([outcome])
            return
        self._answers[index] = outcome
        self._missing -= 1
        if not self._missing:
            self.future.set_result([answer for answer in self._answers if answer is not None])


def late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the result was ready")


ReplyTo = tuple[PendingCall, int]
"""What a request of a LocalClient carries: its call, and its index in that call."""


class LoopSink:
    """A sink whose outcomes are handed out on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hand_out: Callable[[Sequence[tuple[Request, Outcome]]], None],
    ) -> None:
        self._loop = loop
        self._hand_out = hand_out

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hand_out, settled)
        except RuntimeError:  # the loop is closed: no caller waits any more
            _log.warning(
                "dropping %d results: the event loop of their callers has closed", len(settled)
            )


def hand_out(settled: Sequence[tuple[Request, Outcome]]) -> None:
    """To the callers of a LocalClient, on their event loop."""
    for request, outcome in settled:
        reply_to: ReplyTo = request.reply_to  # type: ignore[assignment]  # LocalClient made it
        call, index = reply_to
        call.settle(index, outcome)
