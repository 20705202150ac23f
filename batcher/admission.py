"""May these requests enter the queue, and when would they be done? The one place that refuses for
lack of room or of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batcher.device import Device
from batcher.errors import Overloaded
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.request import Request, is_bulk

# One caller may hold this many times the places that are still free: 8/9 of the queue if alone,
# about 1/k each if k are greedy, and whoever is new finds room (Choudhury and Hahne, "Dynamic queue
# length thresholds for shared-memory packet switches", 1998).
SHARE = 8
_MOST_TAKEN = 0.9  # of the devices' time by interactive work, as reckoned for bulk


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A second, recently."""

    interactive: float = 0.0
    all: float = 0.0


_NONE = Arrivals()


def refusal(
    pending: Pending,
    requests: Sequence[Request],
    limits: Limits,
    devices: Sequence[Device],
    now: float,
    overhead: float,
    arrivals: Arrivals,
) -> Overloaded | None:
    """All of them or none. None means: come in. O(requests + devices).

    `devices`: those that are up; `overhead`: seconds that an answer takes beside its batch.
    Requests of one call have the same caller, priority and deadline.
    """
    asked, first = len(requests), requests[0]
    tokens = first.cost if asked == 1 else sum([request.cost for request in requests])
    waiting = len(pending)
    free = limits.max_queue_size - waiting
    bulk = is_bulk(first.priority)
    if asked > free:
        why = f"{waiting} requests wait and at most {limits.max_queue_size} may"
    elif waiting and tokens > limits.max_queue_tokens - pending.tokens:
        why = f"{pending.tokens} tokens wait and at most {limits.max_queue_tokens} may"
    elif bulk and pending.bulk + asked > max(asked, limits.max_queue_size // 2):
        why = f"{pending.bulk} requests of low priority wait, which may take half of the queue"
    elif (
        first.caller is not None
        and (held := pending.held_by(first.caller))
        and held + asked > SHARE * free
    ):
        why = f"{held} requests of yours wait, which leaves too little room for other callers"
    else:
        if first.deadline == math.inf or not devices:
            return None
        if not waiting and any(device.is_untried(now) for device in devices):
            return None  # only a run can show that a prediction was wrong
        rows = pending.ahead_of(first.priority) + asked
        finish = overhead + seconds_until(rows, devices, now, arrivals, bulk)
        finish += devices[0].pace.longer(asked, tokens)
        if now + finish <= first.deadline:
            return None
        why = f"it would be done in {finish:.2f} s, {now + finish - first.deadline:.2f} s too late"
        return Overloaded(why, finish)
    return Overloaded(why, seconds_until(pending.rows, devices, now, arrivals, bulk))


def seconds_until(
    rows: int,
    devices: Sequence[Device],
    now: float,
    arrivals: Arrivals = _NONE,
    bulk: bool = False,
) -> float:
    """How long until so many rows are done: whole batches at their predicted time behind what runs
    now, the last with its margin. Whoever comes until that one is cut is in it; and interactive
    arrivals go before bulk. 0 while nothing is known of the devices."""
    if not rows or not devices:
        return 0.0
    device = devices[0] if len(devices) == 1 else min(devices, key=_free_at)
    pace = device.pace
    start = max(0.0, device.free_at - now)
    batches, rest = divmod(rows, pace.size)
    rounds, over = divmod(batches, len(devices))
    start += rounds * pace.whole
    if bulk and pace.whole:
        taken = arrivals.interactive * pace.whole / (pace.size * len(devices))
        start /= 1.0 - min(_MOST_TAKEN, taken)
    if rest:
        return start + pace.at_most(min(pace.size, rest + int(arrivals.all * start)))
    return start + (pace.at_most(pace.size) if over else pace.margin * pace.whole)


def _free_at(device: Device) -> float:
    return device.free_at
