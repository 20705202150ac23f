"""What is learned from the arrivals: how many come, and whether callers come straight back after a
batch, so that it is worth waiting a moment for them. Pure: no lock, no clock.

Callers that send their next request when they have their answer split into two groups: one runs
while the other waits, and every batch is half of what it could be. Waiting a moment after a batch
for the callers it has answered puts them into one. Whether they come back is learned by counting
the arrivals after the end of each batch, waited for or not, in excess of the usual rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_MAX_WAIT = 0.1  # of the time of the next batch
_WORTHWHILE = 0.5  # share of the callers that must come straight back
_LEARNING_RATE = 0.2  # the weight of the last batch
_NEARLY_ALL = 0.9
_SPARE = 1.5  # times the delay of nearly all
_RATE_WINDOW = 2.0  # seconds


@dataclass(slots=True)
class Arrivals:
    """Requests per second, recently, refused ones included: they too say how fast a batch fills."""

    interactive: float = 0.0
    bulk: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0, 0])  # since the last update, by lane
    _updated: float | None = None

    def update(self, now: float) -> None:
        if self._updated is not None and now > self._updated:
            seconds = now - self._updated
            keep = math.exp(-seconds / _RATE_WINDOW)
            new = (1.0 - keep) / seconds
            self.interactive = keep * self.interactive + new * self.counts[0]
            self.bulk = keep * self.bulk + new * self.counts[1]
        self.counts, self._updated = [0, 0], now


class Regroup:
    def __init__(self) -> None:
        self._share = 1.0  # of the callers answered that came straight back; optimistic at first
        self.pays = True  # do callers come straight back?
        self._delay: float | None = None  # seconds in which nearly all of them did
        self._between = (0.0, 0.0)  # arrivals and seconds outside the windows, decaying
        # The window after the last batch
        self._replica: int | None = None
        self._began = 0.0
        self._ends = 0.0
        self._released = 0
        self._returned = 0
        self._seen_delay: float | None = None
        self._later = 0  # arrivals after it
        self._is_off = False

    def switch_off(self) -> None:
        """No caller can come straight back."""
        self._is_off, self.pays = True, False

    def arrived(self, now: float, count: int) -> None:
        if self._replica is None:
            return
        if now > self._ends:
            self._later += count
            return
        self._returned += count
        nearly_all = math.ceil(_NEARLY_ALL * self._released)
        if self._seen_delay is None and self._returned >= nearly_all:
            self._seen_delay = now - self._began

    def released(self, replica: int, now: float, count: int, next_batch: float) -> None:
        """A batch has answered so many; the next one is predicted to take `next_batch` seconds."""
        if self._is_off:
            return
        self._learn(now)
        self._replica, self._began, self._ends = replica, now, now + _MAX_WAIT * next_batch
        self._released, self._returned, self._later = count, 0, 0
        self._seen_delay = None

    def until(self, replica: int) -> float:
        """The time until which that replica waits for callers to come back; -inf: it does not."""
        if replica != self._replica or not self.pays or self._returned >= self._released:
            return -math.inf
        if self._delay is None:
            return self._ends
        return min(self._ends, self._began + _SPARE * self._delay)

    def has_waited(self, replica: int, now: float) -> bool:
        """Is a batch cut at this moment one that was, or could have been, held back?"""
        return replica == self._replica and self.pays and self._began < now <= self._ends

    def _learn(self, now: float) -> None:
        """From the window of the batch before."""
        if self._replica is None or not self._released:
            return
        window = self._ends - self._began
        if now < self._ends:  # cut short: the rest is not known
            return
        arrivals, seconds = self._between
        keep = 1.0 - _LEARNING_RATE
        arrivals, seconds = keep * arrivals + self._later, keep * seconds + now - self._ends
        self._between = (arrivals, seconds)
        usual = window * arrivals / seconds if seconds > 0.0 else 0.0
        share = min(1.0, max(0.0, (self._returned - usual) / self._released))
        self._share += _LEARNING_RATE * (share - self._share)
        self.pays = self._share > _WORTHWHILE
        delay = window if self._seen_delay is None else self._seen_delay
        self._delay = (
            delay if self._delay is None else self._delay + _LEARNING_RATE * (delay - self._delay)
        )

    def __repr__(self) -> str:
        return f"<Regroup {self._share:.0%} come straight back>"
