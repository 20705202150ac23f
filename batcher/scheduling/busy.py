"""Busy: for how long a replica has had a batch. Knows no clock: whoever asks brings the time."""

from __future__ import annotations

import math

_RECENTLY = 60.0  # seconds


class Busy:
    """Batches may overlap: the time in which there are several counts once."""

    def __init__(self) -> None:
        self._batches = 0
        self._first: float | None = None  # when the first began
        self._since = 0.0  # the last change between idle and busy
        self._seconds = 0.0  # up to then
        self._share = 0.0  # at that time, not yet divided by the weight of the time there has been

    def began(self, now: float) -> None:
        self._first = now if self._first is None else self._first
        if self._batches == 0:
            self._settle(now)
        self._batches += 1

    def ended(self, now: float) -> None:
        if self._batches == 1:
            self._settle(now)
        self._batches -= 1

    def seconds(self, now: float) -> float:
        """With at least one batch, in all. Never decreases."""
        return self._seconds + (now - self._since if self._batches else 0.0)

    def share(self, now: float) -> float:
        """Of the last minute or so; of the time since the first batch, if that is less."""
        if self._first is None or now <= self._first:
            return 0.0
        return self._share_at(now) / -math.expm1((self._first - now) / _RECENTLY)

    def _settle(self, now: float) -> None:
        self._seconds, self._share, self._since = self.seconds(now), self._share_at(now), now

    def _share_at(self, now: float) -> float:
        kept = math.exp((self._since - now) / _RECENTLY)
        return self._share * kept + (1.0 - kept if self._batches else 0.0)
