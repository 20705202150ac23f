"""Sharing: equal inputs are run once. A request joins the row of an equal one in flight, or takes
its answer from the cache. Pure: no lock, no clock."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batcher.request import Batch, Request
from batcher.scheduling.answer_cache import AnswerCache

_MAX_DUPLICATES = 256  # of one row


@dataclass(slots=True)
class Split:
    """The requests of one call, by what they need."""

    new: Sequence[Request]  # a row of their own
    cached: list[tuple[Request, Any]] = field(default_factory=list)  # nothing: with their result
    coalesced: list[tuple[Request, Batch, int]] = field(default_factory=list)  # that batch and row


class Sharing:
    def __init__(self, shares: bool, cache_bytes: int) -> None:
        self.shares = shares  # equal inputs join a row in flight; the cache does not depend on it
        self.cache = AnswerCache(cache_bytes) if cache_bytes else None
        # By key; each of these batches is in flight.
        self.rows: dict[Hashable, tuple[Batch, int]] = {}

    def split(self, requests: Sequence[Request]) -> Split:
        """Changes nothing but the order in which the cache forgets."""
        new: list[Request] = []
        split = Split(new)
        for request in requests:
            key = request.key
            if key is not None and (row := self._row_in_flight(key)) is not None:
                split.coalesced.append((request, *row))
            elif key is not None and (answer := self._cached(key)) is not None:
                split.cached.append((request, answer))
            else:
                new.append(request)
        return split

    def _row_in_flight(self, key: Hashable) -> tuple[Batch, int] | None:
        """None too where so many share the row that putting them all back would take long."""
        row = self.rows.get(key)
        if row is not None and len(row[0].duplicates.get(row[1], ())) >= _MAX_DUPLICATES:
            return None
        return row

    def _cached(self, key: Hashable) -> Any:
        return None if self.cache is None else self.cache.get(key)

    def keep(self, request: Request, result: Any) -> None:
        """The result of a row."""
        if self.cache is not None and request.key is not None:
            self.cache.put(request.key, result)

    def __repr__(self) -> str:
        return f"<Sharing {len(self.rows)} in flight, {self.cache!r}>"
