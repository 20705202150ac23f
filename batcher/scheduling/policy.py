"""When a batch is due. Pure: no clock, no lock, no I/O. (Which requests go in it: selection.)

A free replica takes everything that waits, up to the limits, at once. Under Poisson arrivals that
is within 0.65 % of the best control limit on mean latency, so max_wait is 0 unless the user sets
it; it counts from the arrival of the oldest request.
"""

from __future__ import annotations

from batcher.limits import Limits
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.selection import in_time

NOW = float("-inf")


def due(pending: Pending, limits: Limits, replica: ReplicaModel, hold: float = NOW) -> float:
    """The time at which a free replica should cut a batch; NOW for at once. Never on an empty
    queue.

    `hold`: until then it may wait for callers that come straight back.
    """
    if pending.rows >= replica.max_batch_size or pending.is_retry:
        return NOW
    time = max(hold, pending.oldest.arrival + limits.max_wait) if limits.max_wait else hold
    return NOW if time == NOW or _is_full(pending, replica) else time


def _is_full(pending: Pending, replica: ReplicaModel) -> bool:
    """Is there no room for another request, however short? O(batch), only before a wait."""
    longest = useful = 0
    rows = in_time(iter(pending), replica.max_batch_size, pending, NOW, {})
    for count, request in enumerate(rows, start=1):
        longest, useful = max(longest, request.cost), useful + request.cost
        if not replica.fits(count + 1, replica.tokens_run(count + 1, longest, useful + 1)):
            return True
    return False
