"""How a caller reaches the engine: submit, and wait for the answer on its own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from batcher.collector import Collector
from batcher.errors import BatcherError, Cancelled, DeadlineExceeded, RunnerFailed
from batcher.futures import LoopSink, PendingCall, late
from batcher.plain_data import refusal
from batcher.request import LEVELS, Answer, BatchReport, Payload, Request
from batcher.scheduling.keys import key_of
from batcher.snapshot import Snapshot
from batcher.timeouts import Deadlines

_LEVELS = range(LEVELS)


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
        answers = await self.submit_all(
            [payload], costs=[cost], deadline=deadline, priority=priority, caller=caller
        )
        return answers[0].value

    async def submit_all(
        self,
        payloads: Sequence[Payload],
        *,
        costs: Sequence[int] | None = None,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> list[Answer]:
        """One answer per payload, in order; all are admitted or none.

        `costs` are in tokens (1 each if not given), `deadline` is absolute on the engine's clock,
        `priority` 0 (soonest) to 7 (from 4 on it is bulk, which fills what the others leave);
        `caller` is whose share of the queue this is taken from, and takes turns with the others of
        its priority (None: nobody in particular). Payloads and values are plain data (see
        plain_data): another payload raises RunnerFailed before anything is queued, and another
        result fails the call. Raises Refused when nothing was accepted, and otherwise the first
        error among the requests; their siblings are then withdrawn. Cancelling the awaiting task
        withdraws them all.
        """

    async def snapshot(self) -> Snapshot: ...

    async def recent_batches(self) -> list[BatchReport]:
        """The last few thousand, newest last."""


class LocalClient(Client):
    """The engine in this process, from one event loop."""

    def __init__(
        self,
        collector: Collector,
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
        self._sink = LoopSink(loop)
        self._deadlines = Deadlines(loop, collector.clock)
        limits = collector.limits
        self._shares = limits.share_equal or limits.cache_bytes > 0

    async def submit_all(
        self,
        payloads: Sequence[Payload],
        *,
        costs: Sequence[int] | None = None,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> list[Answer]:
        if not payloads:
            return []
        now = self._collector.clock.now()
        if deadline is None:
            deadline = now + self._request_timeout
        if costs is None:
            costs = [1] * len(payloads)
        check(costs, deadline, priority, now)
        if not self._any_value:
            for payload in payloads:
                if (why := refusal(payload)) is not None:
                    raise RunnerFailed(f"the input cannot be submitted: {why}")
        places = range(len(payloads))
        call, sink = PendingCall(self._loop, len(payloads), deadline), self._sink
        key = key_of if self._shares else _no_key
        requests = [
            Request(
                payload,
                cost,
                now,
                deadline,
                sink,
                (call, place),
                priority,
                caller,
                key(payload),
            )
            for place, payload, cost in zip(places, payloads, costs, strict=True)
        ]
        self._collector.submit(requests)
        self._deadlines.watch(call, now)
        try:
            answers = await call.future
            if not self._any_value:
                for answer in answers:
                    if (why := refusal(answer.value)) is not None:
                        raise RunnerFailed(f"the result cannot be returned: {why}")
            return answers
        except (asyncio.CancelledError, BatcherError):
            reason = late() if call.is_late else Cancelled("the caller has gone")
            self._collector.withdraw(requests, reason)
            raise
        finally:
            self._deadlines.ended(call)
            del call, requests  # breaks the cycle of an exception and this frame

    async def snapshot(self) -> Snapshot:
        return self._collector.snapshot()

    async def recent_batches(self) -> list[BatchReport]:
        return self._collector.recent_batches()


def check(costs: Sequence[int], deadline: float, priority: int, now: float) -> None:
    """What is asked of every call. Raises DeadlineExceeded, ValueError."""
    if not deadline > now:  # nor is NaN
        raise DeadlineExceeded("the deadline had passed before the request was submitted")
    if priority not in _LEVELS:
        raise ValueError(f"priority must be from 0 to {LEVELS - 1}, not {priority}")
    if min(costs) < 1:
        raise ValueError(f"a cost must be at least 1 token, not {min(costs)}")


def _no_key(payload: Payload) -> None:
    """Nothing is shared."""
