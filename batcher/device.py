"""Device: what scheduling knows of one replica: how fast it is, what fits, and when it is free.

Knows no lock and no clock: the schedule brings the time.
"""

from __future__ import annotations

import math

from batcher.ceiling import MemoryCeiling
from batcher.cost import CostModel
from batcher.limits import Limits

_MOST_TOKENS = 16384  # in a batch, unless the user says otherwise
_LEARNING = 0.1  # the weight of the last batch


class Device:
    def __init__(self, limits: Limits) -> None:
        self.max_batch_size = limits.max_batch_size
        self.max_batch_tokens = limits.max_batch_tokens or _MOST_TOKENS
        self._learns_budget = limits.max_batch_tokens is None
        self.cost = CostModel()
        self.ceiling = MemoryCeiling()
        self.is_up = False
        self.batches = 0  # taken and not ended; more than one only while one runs in halves
        self.free_at = -math.inf  # as predicted; of the past once it is overdue
        self.padding = 1.0  # tokens as run for each useful one, in recent batches

    def came_up(self, profile: object) -> None:
        """`profile`: (size, padded tokens, seconds) of a few batches, as the runner measured them;
        anything else teaches nothing."""
        self.is_up = True
        points = _points(profile)
        if not points:
            return
        self.cost = CostModel()
        self.cost.seed(points)
        if self._learns_budget:
            self.max_batch_tokens = min(_MOST_TOKENS, max(1, self.cost.token_budget()))

    def fits(self, size: int, tokens: int) -> bool:
        """Tokens with their padding. (A request alone goes whatever this says.)"""
        return tokens <= self.max_batch_tokens and self.ceiling.allows(size, tokens)

    @property
    def safe_tokens(self) -> float:
        """What always fits, with its padding."""
        return min(self.max_batch_tokens, self.ceiling.tokens)

    def misfit(self, tokens: int) -> str:
        """What there is too little of."""
        return "tokens" if tokens > self.max_batch_tokens else "memory"

    def predict(self, size: int, mean_tokens: float) -> float:
        """Seconds for so many requests with so many tokens each, padding included."""
        return self.cost.predict(size, round(size * mean_tokens))

    def began(self, now: float, predicted: float) -> None:
        self.batches += 1
        self.free_at = max(now, self.free_at) + predicted if self.batches > 1 else now + predicted

    def ended(self, size: int, tokens: int, useful_tokens: int, seconds: float) -> None:
        """`seconds`: in the runner; 0: it failed."""
        self.batches -= 1
        if seconds > 0.0:
            self.cost.observe(max(1, size), max(1, tokens), seconds)
            if useful_tokens:
                self.padding += _LEARNING * (tokens / useful_tokens - self.padding)

    def __repr__(self) -> str:
        return f"<Device {self.cost!r}, {self.batches} batches>"


def _points(profile: object) -> list[tuple[int, int, float]]:
    if not isinstance(profile, list | tuple):
        return []
    points = []
    for point in profile:
        if not isinstance(point, list | tuple) or len(point) != 3:
            return []
        size, tokens, seconds = point
        if not all(isinstance(value, int | float) for value in point):
            return []
        if size < 1 or tokens < 1 or not 0.0 < seconds < math.inf:
            return []
        points.append((int(size), int(tokens), float(seconds)))
    return points
