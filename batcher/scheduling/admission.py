"""May these requests enter the queue, and when would they be done? The one place that refuses for
lack of room or of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batcher.errors import Overloaded
from batcher.limits import Limits
from batcher.request import FIRST_BULK, Request, is_bulk
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import Device

# One caller may hold this many times the places that are still free: 8/9 of the queue if alone,
# about 1/k each if k are greedy, and whoever is new finds room (Choudhury and Hahne, "Dynamic queue
# length thresholds for shared-memory packet switches", 1998).
SHARE = 8
_SLOW = 2.0
_MOST_TAKEN = 0.9  # of the devices' time by interactive work, as reckoned for bulk


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A second, recently; the refused ones too: they say how fast a batch fills up."""

    interactive: float = 0.0
    bulk: float = 0.0


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
    why = _no_room(pending, first, asked, tokens, limits)
    if why is not None:
        return Overloaded(why, seconds_until(pending.rows, devices, now, arrivals))
    if first.deadline == math.inf or not devices or _is_early(pending, first, asked, devices, now):
        return None
    if not pending and any(device.is_untried(now) for device in devices):
        return None  # only a run can show that a prediction was wrong
    ahead = pending.place_of(first, tokens)
    finish = overhead + seconds_until(ahead + asked, devices, now, arrivals, first.priority)
    finish += devices[0].pace.longer(asked, tokens)
    if now + finish <= first.deadline:
        return None
    why = f"it would be done in {finish:.2f} s, {now + finish - first.deadline:.2f} s too late"
    return Overloaded(why, finish)


def _is_early(
    pending: Pending, first: Request, asked: int, devices: Sequence[Device], now: float
) -> bool:
    """Would it be in time even behind everybody, in batches twice as slow as predicted? Most are,
    and need no closer look. Of interactive work: nothing comes before that."""
    if first.priority >= FIRST_BULK:
        return False
    pace = devices[0].pace
    batches = (len(pending) + asked) // pace.size + 2
    latest = devices[0].free_at if len(devices) == 1 else max([each.free_at for each in devices])
    start = latest if latest > now else now
    return start + _SLOW * batches * pace.whole < first.deadline


def _no_room(
    pending: Pending, first: Request, asked: int, tokens: int, limits: Limits
) -> str | None:
    """Whatever the time. A call that comes to an empty queue may bring more tokens than wait."""
    waiting = len(pending)
    free = limits.max_queue_size - waiting
    if asked > free:
        return f"{waiting} requests wait and at most {limits.max_queue_size} may"
    if not waiting:
        return None
    waiting_tokens = pending.tokens
    if waiting_tokens + tokens > limits.max_queue_tokens:
        return f"{waiting_tokens} tokens wait and at most {limits.max_queue_tokens} may"
    bulk = pending.bulk if first.priority >= FIRST_BULK else 0
    if bulk and (
        bulk + asked > limits.max_queue_size // 2
        or pending.bulk_tokens + tokens > limits.max_queue_tokens // 2
    ):
        return f"{bulk} requests of low priority wait, which may take half of the queue"
    held = 0 if first.caller is None else pending.held_by(first.caller)
    if held and held + asked > SHARE * free:
        return f"{held} requests of yours wait, which leaves too little room for other callers"
    return None


def seconds_until(
    rows: int,
    devices: Sequence[Device],
    now: float,
    arrivals: Arrivals = _NONE,
    priority: int = 0,
) -> float:
    """How long until so many rows are done: whole batches at their predicted time behind what runs
    now, the last with its margin. Whoever comes before that one is cut is in it, but for bulk in an
    interactive one; and interactive arrivals go before bulk, and make its batches smaller. 0 while
    nothing is known."""
    if not rows or not devices:
        return 0.0
    bulk = is_bulk(priority)
    if len(devices) == 1:
        device = devices[0]
        pace = device.pace
        round_, rest = divmod(rows, pace.size)
    else:
        pace = min(devices, key=_free_at).pace
        batches, rest = divmod(rows, pace.size)
        round_, place = divmod(batches if rest else batches - 1, len(devices))
        # The batch goes to whichever is free when those before it have been handed out.
        device = sorted(devices, key=_free_at)[place]
        if not rest:
            rest = pace.size
    start = max(0.0, device.free_at - now) + round_ * pace.whole
    if bulk and pace.whole:
        taken = arrivals.interactive * pace.whole / (pace.size * len(devices))
        start /= device.fullness * (1.0 - min(_MOST_TAKEN, taken))
    if not rest:
        return start + pace.margin * pace.whole
    company = arrivals.interactive + (arrivals.bulk if bulk else 0.0)
    return start + pace.at_most(min(pace.size, rest + int(company * start)))


def _free_at(device: Device) -> float:
    return device.free_at
