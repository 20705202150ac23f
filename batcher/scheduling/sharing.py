"""Sharing: whose answer is there already, or on its way. Equal inputs are run once. Pure data: no
lock, no clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batcher.request import Batch, Request, State
from batcher.scheduling.answer_cache import Answers

_MOST_TWINS = 256  # of one row


@dataclass(slots=True)
class Sorted:
    """The requests of one call, by what they need."""

    alone: Sequence[Request]  # a row of their own
    known: list[tuple[Request, Any]] = field(default_factory=list)  # nothing: here is the result
    joining: list[tuple[Request, Batch, int]] = field(default_factory=list)  # that batch and row


class Sharing:
    def __init__(self, shares: bool, cache_bytes: int) -> None:
        """`shares`: equal inputs join a row that runs. Finished answers are another matter."""
        self._shares = shares
        self._answers = Answers(cache_bytes) if cache_bytes else None
        # Each of these batches runs, and has not ended.
        self._in_flight: dict[Hashable, tuple[Batch, int]] = {}

    def sort(self, requests: Sequence[Request]) -> Sorted:
        """Changes nothing but what the answers know of their use."""
        if not self._in_flight and self._answers is None:
            return Sorted(requests)
        alone: list[Request] = []
        result = Sorted(alone)
        for request in requests:
            key = request.key
            if key is not None and (flying := self._running(key)) is not None:
                result.joining.append((request, *flying))
            elif key is not None and (answer := self._answer(key)) is not None:
                result.known.append((request, answer))
            else:
                alone.append(request)
        return result

    def _running(self, key: Hashable) -> tuple[Batch, int] | None:
        """None too where so many wait already that more would be no small matter, were they all to
        go back to the queue."""
        flying = self._in_flight.get(key)
        if flying is not None and len(flying[0].twins.get(flying[1], ())) >= _MOST_TWINS:
            return None
        return flying

    def _answer(self, key: Hashable) -> Any:
        return None if self._answers is None else self._answers.get(key)

    def runs(self, batch: Batch) -> None:
        if not self._shares:
            return
        for row, request in enumerate(batch.requests):
            if request.key is not None:
                self._in_flight[request.key] = (batch, row)

    def ended(self, batch: Batch) -> None:
        for request in batch.requests:
            flying = self._in_flight.get(request.key)
            if flying is not None and flying[0] is batch:
                del self._in_flight[request.key]

    def keep(self, request: Request, result: Any) -> None:
        """The result of a row."""
        if self._answers is not None and request.key is not None:
            self._answers.put(request.key, result)

    def __repr__(self) -> str:
        return f"<Sharing {len(self._in_flight)} in flight, {self._answers!r}>"


def join(request: Request, batch: Batch, row: int) -> None:
    """From here on it is RUNNING, with the others of that row."""
    request.state = State.RUNNING
    batch.twins.setdefault(row, []).append(request)
