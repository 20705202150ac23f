"""May these requests enter the queue? The one place that refuses for lack of room."""

from __future__ import annotations

import math

from batcher.cost import CostModel
from batcher.errors import Overloaded
from batcher.limits import Limits
from batcher.pending import Pending

# One caller may hold this many times the places that are still free: 8/9 of the queue if alone,
# about 1/k each if k are greedy, and whoever is new finds room (Choudhury and Hahne, "Dynamic queue
# length thresholds for shared-memory packet switches", 1998).
SHARE = 8


def refusal(
    pending: Pending,
    asked: int,
    limits: Limits,
    cost: CostModel,
    replicas: int,
    caller: str | None = None,
) -> Overloaded | None:
    """All of `asked` requests or none. None means: come in."""
    free = limits.max_queue_size - len(pending)
    if asked > free:
        why = f"{len(pending)} requests wait and at most {limits.max_queue_size} may"
    elif caller is not None and (held := pending.held_by(caller)) and held + asked > SHARE * free:
        why = f"{held} requests of yours wait, which leaves too little room for other callers"
    else:
        return None
    return Overloaded(why, seconds_to_drain(pending, limits, cost, replicas))


def seconds_to_drain(pending: Pending, limits: Limits, cost: CostModel, replicas: int) -> float:
    """How long what waits now will keep `replicas` busy: whole batches at their predicted time."""
    waiting = len(pending)
    if not waiting:
        return 0.0
    mean_cost = pending.tokens / waiting
    by_tokens = max(1, int(limits.max_batch_tokens / max(1.0, mean_cost)))
    size = min(waiting, limits.max_batch_size, by_tokens)
    batches = math.ceil(waiting / size)
    return batches * cost.predict(size, round(size * mean_cost)) / max(1, replicas)
