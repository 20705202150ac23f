"""May these requests enter the queue, and when would they be done? The one place that refuses for
lack of room or of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batcher.device import Device
from batcher.errors import Overloaded
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.request import Request, is_bulk

# One caller may hold this many times the places that are still free: 8/9 of the queue if alone,
# about 1/k each if k are greedy, and whoever is new finds room (Choudhury and Hahne, "Dynamic queue
# length thresholds for shared-memory packet switches", 1998).
SHARE = 8


def refusal(
    pending: Pending,
    requests: Sequence[Request],
    limits: Limits,
    devices: Sequence[Device],
    now: float,
    overhead: float,
    rate: float,
) -> Overloaded | None:
    """All of them or none. None means: come in. O(requests + devices).

    `devices`: those that are up; `rate`: of arrivals, a second. Requests of one call have the same
    caller, priority and deadline.
    """
    asked, first = len(requests), requests[0]
    tokens = first.cost if asked == 1 else sum([request.cost for request in requests])
    free = limits.max_queue_size - len(pending)
    if asked > free:
        why = f"{len(pending)} requests wait and at most {limits.max_queue_size} may"
    elif pending and tokens > limits.max_queue_tokens - pending.tokens:
        why = f"{pending.tokens} tokens wait and at most {limits.max_queue_tokens} may"
    elif is_bulk(first.priority) and pending.bulk + asked > max(asked, limits.max_queue_size // 2):
        why = f"{pending.bulk} requests of low priority wait, which may take half of the queue"
    elif (
        first.caller is not None
        and (held := pending.held_by(first.caller))
        and held + asked > SHARE * free
    ):
        why = f"{held} requests of yours wait, which leaves too little room for other callers"
    else:
        if first.deadline == math.inf or not (pending or all(each.batches for each in devices)):
            # An idle engine tries whatever comes: only that can show a prediction to be wrong.
            return None
        ahead = pending.ahead_of(first.priority)
        finish = overhead + seconds_until(ahead + asked, devices, now, rate)
        finish += _unusual(asked, tokens, devices)
        if now + finish <= first.deadline:
            return None
        why = f"it would be done in {finish:.2f} s, {now + finish - first.deadline:.2f} s too late"
        return Overloaded(why, finish)
    return Overloaded(why, seconds_until(pending.rows, devices, now))


def seconds_until(rows: int, devices: Sequence[Device], now: float, rate: float = 0.0) -> float:
    """How long until so many rows are done, whole batches at their predicted time, behind what runs
    now. Whoever comes until the last batch is cut, at `rate`, is in it. 0 while nothing is known of
    the devices."""
    if not rows or not devices:
        return 0.0
    device = devices[0] if len(devices) == 1 else min(devices, key=_free_at)
    pace = device.pace
    start = max(0.0, device.free_at - now)
    batches, rest = divmod(rows, pace.size)
    rounds, over = divmod(batches, len(devices))
    start += rounds * pace.whole
    if rest:
        return start + pace.seconds(min(pace.size, rest + int(rate * start)))
    return start + pace.whole if over else start


def _unusual(asked: int, tokens: int, devices: Sequence[Device]) -> float:
    """Seconds for what is longer than usual, and for a batch that takes longer than predicted."""
    if not devices:
        return 0.0
    pace = devices[0].pace
    longer = max(0.0, tokens - asked * pace.tokens) * pace.per_token
    return longer + devices[0].cost.margin * pace.whole


def _free_at(device: Device) -> float:
    return device.free_at
