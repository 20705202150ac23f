"""When is a batch due, and which requests go in it. Pure: no clock, no lock, no I/O.

Take-all, bound late: a free replica takes everything that waits, up to the limits. Under Poisson
arrivals that is within 0.65 % of the best control limit on mean latency, so max_wait is 0 unless
the user says otherwise, and it counts from the arrival of the oldest request.
"""

from __future__ import annotations

from dataclasses import dataclass

from batcher.ceiling import MemoryCeiling
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.recovery import runs_alone
from batcher.request import Request

NOW = float("-inf")
_NO_CEILING = MemoryCeiling()


@dataclass(slots=True)
class Fill:
    """What a batch cut at this instant would hold, and what it would leave behind for good."""

    taken: list[Request]
    expired: list[Request]
    reason: str
    tokens: int = 0  # as run, padding included


def due(
    pending: Pending, limits: Limits, draining: bool, ceiling: MemoryCeiling = _NO_CEILING
) -> float:
    """The time at which a free replica should cut a batch; NOW for at once. Never on empty."""
    if draining or limits.max_wait == 0.0 or len(pending) >= limits.max_batch_size:
        return NOW
    if pending.oldest.losses or _room_used_up(pending, limits, ceiling):
        return NOW
    return pending.oldest.arrival + limits.max_wait


def fill(
    pending: Pending,
    limits: Limits,
    now: float,
    draining: bool,
    ceiling: MemoryCeiling = _NO_CEILING,
) -> Fill:
    """Oldest first, until the size or the padded tokens are used up. Removes nothing. O(batch).

    Requests that a worker was lost with share a batch only with their like: whoever is in the
    queue for the first time must not be drawn into what they may do again.
    """
    result = Fill([], [], "drain" if draining else "max_wait" if limits.max_wait else "idle")
    longest = losses = 0
    for request in pending:
        if request.deadline <= now:
            result.expired.append(request)
            continue
        if len(result.taken) == limits.max_batch_size:
            break
        size = len(result.taken) + 1
        padded = max(longest, request.cost) * size
        if not result.taken:
            losses = request.losses
        elif request.losses != losses or runs_alone(losses):
            break
        elif padded > limits.max_batch_tokens:
            result.reason = "tokens"
            break
        elif not ceiling.allows(size, padded):
            result.reason = "memory"
            break
        result.taken.append(request)
        longest = max(longest, request.cost)
    result.tokens = longest * len(result.taken)
    if losses:
        result.reason = "retry"
    elif len(result.taken) == limits.max_batch_size:
        result.reason = "full"
    elif result.taken and longest * (len(result.taken) + 1) > limits.max_batch_tokens:
        result.reason = "tokens"
    return result


def _room_used_up(pending: Pending, limits: Limits, ceiling: MemoryCeiling) -> bool:
    """Is there no room for one more, however short? O(batch), and only asked under a max_wait."""
    longest = 0
    for count, request in enumerate(pending, start=1):
        longest = max(longest, request.cost)
        padded = longest * (count + 1)
        if padded > limits.max_batch_tokens or not ceiling.allows(count + 1, padded):
            return True
    return False
