"""ReplicaModel: what scheduling knows of one replica: its speed, what fits in a batch and in its
memory, and when it is free. Pure: no lock, no clock; the schedule passes the time in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from batcher.limits import Limits
from batcher.runner import ProfilePoint
from batcher.scheduling.cost import CostModel

# Bounds on the padded tokens of a batch, unless the user sets it. The lower one keeps batching on
# where the fixed cost of a batch is too small to be measured.
_MIN_TOKENS, MOST_TOKENS = 1024, 16384
_LEARNING_RATE = 0.1  # the weight of the last batch
_RETRY_AFTER = 1.0  # seconds idle before a batch predicted to be late is run all the same
_UTILISATION_WINDOW = 60.0  # seconds
# Seconds without a lack of memory before twice as much is tried again; without a batch before a
# call that has no chance is let in, to see whether it has one by now.
_TRUST = 600.0
_MAX_TRUST = 86_400.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a replica works through a queue of requests of the usual length. In seconds."""

    size: int  # rows in a full batch
    fixed: float = 0.0  # of a batch
    per_row: float = 0.0
    tokens: float = 1.0  # of a row, unpadded
    per_token: float = 0.0
    margin: float = 0.0  # the share of the prediction by which 95 % of the batches are late at most
    full_batch: float = 0.0

    def seconds(self, rows: int) -> float:
        return self.fixed + self.per_row * rows

    def upper_bound(self, rows: int) -> float:
        return self.seconds(rows) * (1.0 + self.margin)

    def extra_for_length(self, rows: int, tokens: int) -> float:
        """The time these rows take beyond rows of the usual length."""
        return max(0.0, tokens - rows * self.tokens) * self.per_token


class ReplicaModel:
    def __init__(self, limits: Limits) -> None:
        self.max_batch_size = limits.max_batch_size
        self.max_batch_tokens = limits.max_batch_tokens or MOST_TOKENS
        self._learns_budget = limits.max_batch_tokens is None
        self.cost = CostModel()
        self.memory_ceiling = MemoryCeiling()
        self.is_up = False
        self.padding_free = False  # its runner skips padding: only useful tokens take time
        self.utilisation = Utilisation()
        # Taken and not ended: the one that runs, the next one cut early, halves of one that failed.
        self.batches = 0
        self.free_at = -math.inf  # predicted; in the past once a batch is overdue
        # Predicted seconds of each of its batches, oldest first: that one runs.
        self.predicted: deque[float] = deque()
        self.pace = Pace(self.max_batch_size)
        # Recent batches that left work behind, as a share of what full batches would have done.
        self.fullness = 1.0
        self.ran_at = -math.inf  # the end of the last batch that ran, or canary
        self._tested_at = -math.inf  # the end of the last batch, or when it came up
        self.padding = 1.0  # tokens as run for each useful token, in recent batches

    def came_up(
        self,
        profile: Sequence[ProfilePoint],
        padding_free: bool = False,
        now: float = -math.inf,
    ) -> None:
        """`profile`: a few batches as the runner measured them. Ignored if one of them is
        impossible, or if batches have been observed before."""
        self.is_up, self.padding_free, self._tested_at = True, padding_free, now
        if not profile or not all(map(_is_possible, profile)) or self.cost.observations:
            return
        self.cost.seed(profile)
        if self._learns_budget:
            budget = self.cost.token_budget()
            self.max_batch_tokens = min(MOST_TOKENS, max(_MIN_TOKENS, budget))
        self.set_pace(min(tokens / size for size, tokens, _ in profile))  # until one has run

    def tokens_run(self, size: int, longest: int, useful_tokens: int) -> int:
        """The tokens of such a batch as it is run: padded, unless the runner is padding-free."""
        return useful_tokens if self.padding_free else size * longest

    def fits(self, size: int, tokens: int) -> bool:
        """Tokens as run. A batch of one runs whatever this says."""
        return tokens <= self.max_batch_tokens and self.memory_ceiling.allows(size, tokens)

    @property
    def safe_tokens(self) -> float:
        """Padded tokens that always fit."""
        return min(self.max_batch_tokens, self.memory_ceiling.tokens)

    def set_pace(self, mean_tokens: float) -> None:
        """For requests of so many tokens each. Computed once per batch, not per request: admission
        reads the pace for every request."""
        fixed, per_row, per_token = self.cost.weights
        tokens = max(1.0, mean_tokens) * self.padding
        size = min(self.max_batch_size, max(1, int(self.max_batch_tokens / tokens)))
        per_row += per_token * tokens
        full_batch = fixed + per_row * size
        self.pace = Pace(size, fixed, per_row, mean_tokens, per_token, self.cost.margin, full_batch)

    def began(self, now: float, predicted: float) -> None:
        self.free_at = (max(now, self.free_at) if self.batches else now) + predicted
        self.batches += 1
        self.utilisation.began(now)
        self.predicted.append(predicted)

    def left_work(self, rows: int, predicted: float) -> None:
        """A batch of so many rows was cut, and others still wait."""
        if predicted > 0.0:
            share = min(1.0, rows * self.pace.full_batch / (predicted * self.pace.size))
            self.fullness += _LEARNING_RATE * (share - self.fullness)

    def may_test_prediction(self, now: float) -> bool:
        """Has it been idle for so long that a run is worth it, only to correct the prediction?"""
        return not self.batches and now - self.ran_at >= _RETRY_AFTER

    def may_refuse_for_good(self, now: float) -> bool:
        """Have batches shown lately how fast it is, and not that it is far faster than predicted?
        Else the next is let in if it is idle."""
        is_faster = self.cost.outliers and self.cost.outliers[0] < 1.0
        is_known = now - self._tested_at < _TRUST and not is_faster
        return is_known or not self.may_test_prediction(now)

    def seconds_at_least(self, rows: int, tokens: int) -> float:
        """Without padding, in as few batches as may be."""
        fixed, per_row, per_token = self.cost.weights
        batches = max(rows / self.max_batch_size, tokens / self.max_batch_tokens)
        return fixed * batches + per_row * rows + per_token * tokens

    def ended(self, now: float, tokens: int, useful_tokens: int, seconds: float) -> None:
        """`seconds` in the runner; 0: the batch failed."""
        self.batches -= 1
        self.utilisation.ended(now)
        self.predicted.popleft()
        self.free_at = now + sum(self.predicted)
        if seconds > 0.0:
            self.ran_at = now
            if useful_tokens:
                self._tested_at = now
                self.padding += _LEARNING_RATE * (tokens / useful_tokens - self.padding)

    def __repr__(self) -> str:
        return f"<ReplicaModel {self.cost!r}, {self.batches} batches>"


def _is_possible(point: ProfilePoint) -> bool:
    size, tokens, seconds = point
    return size >= 1 and tokens >= 1 and 0.0 < seconds < math.inf


class Utilisation:
    """For how long the replica has had at least one batch; batches that overlap count once."""

    def __init__(self) -> None:
        self._batches = 0
        self._first: float | None = None  # the start of the first batch
        self._since = 0.0  # the last change between idle and busy
        self._seconds = 0.0  # busy, up to then
        self._share = 0.0  # at that time; normalised when it is read

    def began(self, now: float) -> None:
        self._first = now if self._first is None else self._first
        if self._batches == 0:
            self._update(now)
        self._batches += 1

    def ended(self, now: float) -> None:
        if self._batches == 1:
            self._update(now)
        self._batches -= 1

    def seconds(self, now: float) -> float:
        """In total. Never decreases."""
        return self._seconds + (now - self._since if self._batches else 0.0)

    def share(self, now: float) -> float:
        """Of about the last minute, or of the time since the first batch if that is less."""
        if self._first is None or now <= self._first:
            return 0.0
        return self._share_at(now) / -math.expm1((self._first - now) / _UTILISATION_WINDOW)

    def _update(self, now: float) -> None:
        if self._batches:
            self._seconds += now - self._since
        self._share, self._since = self._share_at(now), now

    def _share_at(self, now: float) -> float:
        kept = math.exp((self._since - now) / _UTILISATION_WINDOW)
        return self._share * kept + (1.0 - kept if self._batches else 0.0)


class MemoryCeiling:
    """A batch is allowed if its requests or its padded tokens are within what was safe.

    One bound each, because it is not known which of the two it was. Each failure lowers the bounds
    that had let the batch through.
    """

    def __init__(self) -> None:
        self.size = math.inf
        self.tokens = math.inf
        self._changed_at = 0.0  # by a failure, or by a try
        self._is_trying = False  # the last change was a try
        self._trust = _TRUST

    def allows(self, size: int, tokens: int) -> bool:
        return size <= self.size or tokens <= self.tokens

    def failed(self, size: int, tokens: int, now: float) -> None:
        """A batch of more than one request was too large."""
        is_within_size, is_within_tokens = size <= self.size, tokens <= self.tokens
        if is_within_size:
            self.size = (size + 1) // 2  # the larger half: it will be seen at once if that fits
        if is_within_tokens:
            self.tokens = (tokens + 1) // 2
        if self._is_trying:
            self._trust = min(2 * self._trust, _MAX_TRUST)
        self._changed_at, self._is_trying = now, False

    def relax(self, now: float) -> None:
        """Long after the last failure more is tried: another user of the memory may have gone.

        If that fails too, it is twice as long until the next try.
        """
        if self.tokens < math.inf and now - self._changed_at >= self._trust:
            self.size, self.tokens = self.size * 2, self.tokens * 2
            self._changed_at, self._is_trying = now, True

    def __repr__(self) -> str:
        return f"<MemoryCeiling {self.size:.0f} requests or {self.tokens:.0f} tokens>"
