"""What a request that takes longer than SLOW_AFTER is held to: its body keeps arriving, and its
inputs are withdrawn from the engine once its client has gone. Others pay nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Literal, Protocol

from starlette.types import Receive

from service.errors import Problem

SLOW_AFTER = 0.1  # seconds
RECEIPT_TIMEOUT = 10.0  # seconds for a body, and more as it arrives
# Bytes a second that make up for themselves: 0.5 Mbit/s. A small body gets no more time for them,
# and a slow sender of a large one must keep its line busy to hold its place.
SLOWEST = 64 << 10

Phase = Literal["receiving", "waiting", "other"]
"""The body arrives; the inputs wait for the engine or run; all else."""


class Answered(Protocol):
    """What the log and the metrics say of a request."""

    status: int
    error_code: str
    request_id: bytes


class Disconnected(Exception):
    """The client has gone, or its body was no HTTP and the edge has answered."""

    def __init__(self, refusal: tuple[Problem, bytes] | None = None) -> None:
        """`refusal`: the edge's answer and its request id, where there is one."""
        super().__init__()
        self.refusal = refusal

    def note_in(self, request: Answered) -> str | None:
        """The outcome; None: as the status says, which is the edge's by then."""
        if self.refusal is None:
            return "cancelled"
        problem, request.request_id = self.refusal
        request.status, request.error_code = problem.status, problem.code
        return None


class Supervised(Protocol):
    receive: Receive
    held: int  # bytes of its body that have arrived, beyond a small one
    task: asyncio.Task[None] | None  # that answers it


class Supervision:
    """Of one slow request."""

    def __init__(self, request: Supervised) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time() - SLOW_AFTER
        self._task: asyncio.Task[None] | None = None  # of the phase
        self.reason: Exception | None = None  # why the request's task was cancelled, if it was here

    @property
    def seconds(self) -> float:
        """Since the request began."""
        return self._loop.time() - self._began

    def enter(self, phase: Phase) -> None:
        """What this phase asks for, instead of what the phase before did."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if phase == "receiving":
            self._start(self._limit_receipt())
        elif phase == "waiting":
            self._start(self._watch_client())

    def _start(self, supervision: Coroutine[object, object, None]) -> None:
        self._task = self._loop.create_task(supervision)

    async def _limit_receipt(self) -> None:
        # By its end more may have arrived, and the end is later.
        while (left := self._receipt_timeout() - self.seconds) > 0.0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        self._interrupt(
            Problem(
                408,
                f"the body did not arrive within {RECEIPT_TIMEOUT:g} s, nor a large one at"
                f" {SLOWEST >> 10} KiB/s",
                headers={"connection": "close"},
            )
        )

    def _receipt_timeout(self) -> float:
        return RECEIPT_TIMEOUT + self._request.held / SLOWEST

    async def _watch_client(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass  # the body has been read: nothing else comes
        self._interrupt(Disconnected())

    def _interrupt(self, reason: Exception) -> None:
        self.reason = reason
        if self._request.task is not None:
            self._request.task.cancel()
