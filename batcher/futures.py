"""Outcomes onto an event loop: one wake-up per loop per batch, whatever the batch's size."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from batcher.errors import BatcherError, DeadlineExceeded
from batcher.request import Answer, Outcome, Request

_log = logging.getLogger(__name__)


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
    return DeadlineExceeded("the deadline passed before the answer was there")


ReplyTo = tuple[PendingCall, int]
"""What a request of a LoopSink carries: its call, and its index in that call."""


class LoopSink:
    """The sink of one event loop, for requests that carry a ReplyTo."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        try:
            self._loop.call_soon_threadsafe(_hand_out, settled)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            _log.warning("%d outcomes came after their event loop had closed", len(settled))


def _hand_out(settled: Sequence[tuple[Request, Outcome]]) -> None:
    for request, outcome in settled:
        reply_to: ReplyTo = request.reply_to  # type: ignore[assignment]  # LocalClient made it
        call, index = reply_to
        call.settle(index, outcome)
