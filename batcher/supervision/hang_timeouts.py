"""How long a batch may take before its worker is taken to hang. Pure: the batching thread waits.

An encoder's time follows from its tokens, so its bound is tight. Code of the user's own may take as
long as its callers have: with `hang_by_deadline` the bound is never below the time that is left to
the last of them. The callers of several rows keep half of it, to run again if one row has hung; and
so does a row that has been lost before, for those that wait behind it.
"""

from __future__ import annotations

from batcher.limits import Limits
from batcher.request import Request
from batcher.scheduling.cost import CostModel
from batcher.scheduling.selection import Selection

_TIMES_PREDICTED = 10.0
_TIMES_PROPORTIONAL = 2.0
_COLD = 300.0  # seconds that a batch may take before the first observation
_MAX_SCALE = 64.0
_SHARE = 0.5  # of the time that is left, where others want some of it


class HangTimeouts:
    def __init__(self, limits: Limits) -> None:
        self._minimum = limits.hang_after
        self._by_deadline = limits.hang_by_deadline
        self._scale = 1.0  # for batches of several rows; grows when one of them hangs

    def of(self, selection: Selection, cost: CostModel, now: float) -> float:
        """In seconds. O(batch) where deadlines count."""
        size, predicted = len(selection.taken), selection.predicted
        timeout = hang_timeout(cost, size, selection.tokens, predicted, self._minimum)
        if size > 1:
            timeout *= self._scale
        if self._by_deadline and size:
            timeout = max(timeout, time_left(selection, now))
        return timeout

    def hung(self, size: int) -> None:
        """A batch of so many rows. Perhaps it was only slow: more time for the next one of several
        rows tells the two apart."""
        if size > 1:
            self._scale = min(2 * self._scale, _MAX_SCALE)

    def reset(self) -> None:
        """One of several rows has run well, or the culprit has been found."""
        self._scale = 1.0


def hang_timeout(
    cost: CostModel, size: int, tokens: int, predicted: float, minimum: float
) -> float:
    """Seconds after which a batch is taken to hang; at least `minimum`.

    A batch larger than any before gets twice the time it would take if time grew with its tokens or
    its requests, whichever is more of them.
    """
    if not cost.observations:
        return max(minimum, _COLD)
    largest_size, largest_tokens, seconds = cost.largest
    grown = max(1.0, size / max(1, largest_size), tokens / max(1, largest_tokens))
    return max(minimum, _TIMES_PREDICTED * predicted, _TIMES_PROPORTIONAL * seconds * grown)


def time_left(selection: Selection, now: float) -> float:
    """What a batch may take of the time until the last of its deadlines."""
    requests: list[Request] = [*selection.taken]
    for others in selection.duplicates.values():
        requests += others
    left = max(request.deadline for request in requests) - now
    is_alone = len(selection.taken) == 1 and not selection.taken[0].workers_lost
    return left if is_alone else _SHARE * left
