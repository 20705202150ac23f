"""Device: what scheduling knows of one replica: how fast it is, what fits, and when it is free.

Knows no lock and no clock: the schedule brings the time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from batcher.limits import Limits
from batcher.runner import ProfilePoint
from batcher.scheduling.busy import Busy
from batcher.scheduling.cost import CostModel
from batcher.scheduling.memory_ceiling import MemoryCeiling

# Padded tokens in a batch, unless the user says otherwise: as many as make it efficient, and not so
# few that a fixed cost too small to be measured switches batching off.
_LEAST_TOKENS, MOST_TOKENS = 1024, 16384
_LEARNING = 0.1  # the weight of the last batch
_TRY_AFTER = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a device works through a queue of the usual kind. Times in seconds."""

    size: int  # rows in a whole batch
    fixed: float = 0.0  # of a batch
    each: float = 0.0  # of a row in it
    tokens: float = 1.0  # of a row, unpadded
    per_token: float = 0.0
    margin: float = 0.0  # share of its time by which a batch may well be late

    @property
    def whole(self) -> float:
        return self.fixed + self.each * self.size

    def seconds(self, rows: int) -> float:
        return self.fixed + self.each * rows

    def at_most(self, rows: int) -> float:
        return self.seconds(rows) * (1.0 + self.margin)

    def longer(self, rows: int, tokens: int) -> float:
        """What so many rows take beyond the usual because of their length."""
        return max(0.0, tokens - rows * self.tokens) * self.per_token


class Device:
    def __init__(self, limits: Limits) -> None:
        self.max_batch_size = limits.max_batch_size
        self.max_batch_tokens = limits.max_batch_tokens or MOST_TOKENS
        self._learns_budget = limits.max_batch_tokens is None
        self.cost = CostModel()
        self.ceiling = MemoryCeiling()
        self.is_up = False
        self.padding_free = False  # does it run no padding, and take what useful tokens take?
        self.busy = Busy()
        # Taken and not ended: the one that runs, what was cut ahead, the parts of one that failed.
        self.batches = 0
        self.free_at = -math.inf  # as predicted; of the past once it is overdue
        self._predicted: deque[float] = deque()  # seconds of each of its batches, as they will end
        self.pace = Pace(self.max_batch_size)
        self.fullness = 1.0  # of what whole batches would do, in recent ones that left work behind
        self.ran_at = -math.inf  # the end of the last batch that ran
        self.padding = 1.0  # tokens as run for each useful one, in recent batches

    def came_up(self, profile: Sequence[ProfilePoint], padding_free: bool = False) -> None:
        """`profile`: a few batches, as the runner measured them. One that holds an impossible
        measurement teaches nothing."""
        self.is_up, self.padding_free = True, padding_free
        if not profile or not all(map(_is_possible, profile)):
            return
        if self.cost.observations:  # in a later life what has been learned stays
            return
        self.cost.seed(profile)
        if self._learns_budget:
            budget = self.cost.token_budget()
            self.max_batch_tokens = min(MOST_TOKENS, max(_LEAST_TOKENS, budget))
        self.set_pace(min(tokens / size for size, tokens, _ in profile))  # until one has run

    def runs(self, size: int, longest: int, useful_tokens: int) -> int:
        """The tokens of such a batch as it is run: with their padding, if it is padded."""
        return useful_tokens if self.padding_free else size * longest

    def fits(self, size: int, tokens: int) -> bool:
        """Tokens as run. (A request alone goes whatever this says.)"""
        return tokens <= self.max_batch_tokens and self.ceiling.allows(size, tokens)

    @property
    def safe_tokens(self) -> float:
        """What always fits, with its padding."""
        return min(self.max_batch_tokens, self.ceiling.tokens)

    def misfit(self, tokens: int) -> str:
        """What there is too little of."""
        return "tokens" if tokens > self.max_batch_tokens else "memory"

    def set_pace(self, mean_tokens: float) -> None:
        """For requests of so many tokens each. Once for each batch: admission is asked more often,
        and has no time for more than a multiplication."""
        fixed, each, per_token = self.cost.weights
        tokens = max(1.0, mean_tokens) * self.padding
        size = min(self.max_batch_size, max(1, int(self.max_batch_tokens / tokens)))
        each += per_token * tokens
        self.pace = Pace(size, fixed, each, mean_tokens, per_token, self.cost.margin)

    def began(self, now: float, predicted: float) -> None:
        self.free_at = self.starts(now) + predicted
        self.batches += 1
        self.busy.began(now)
        self._predicted.append(predicted)

    def starts(self, now: float) -> float:
        """When a batch cut now begins to run, as predicted."""
        return max(now, self.free_at) if self.batches else now

    @property
    def running(self) -> float:
        """Seconds of the batch that runs, as predicted. Never while none does."""
        return self._predicted[0]

    def left_work(self, rows: int, predicted: float) -> None:
        """A batch of so many rows was cut, and others still wait."""
        if predicted > 0.0:
            share = min(1.0, rows * self.pace.whole / (predicted * self.pace.size))
            self.fullness += _LEARNING * (share - self.fullness)

    def is_untried(self, now: float) -> bool:
        """Is it idle, and has it been for so long that one more run would say something new?"""
        return not self.batches and now - self.ran_at >= _TRY_AFTER

    def ended(self, now: float, size: int, tokens: int, useful_tokens: int, seconds: float) -> None:
        """`seconds`: in the runner; 0: it failed."""
        self.batches -= 1
        self.busy.ended(now)
        self._predicted.popleft()
        self.free_at = now + sum(self._predicted)
        if seconds > 0.0:
            self.ran_at = now
            self.cost.observe(max(1, size), max(1, tokens), seconds)
            if useful_tokens:
                self.padding += _LEARNING * (tokens / useful_tokens - self.padding)

    def __repr__(self) -> str:
        return f"<Device {self.cost!r}, {self.batches} batches>"


def _is_possible(point: ProfilePoint) -> bool:
    size, tokens, seconds = point
    return size >= 1 and tokens >= 1 and 0.0 < seconds < math.inf
