"""Admission: may these requests be queued, and when would they be done? The only place that refuses
for lack of room or of time. Pure: no lock, no clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

from batcher.errors import BatcherError, CallTooLarge, NeverInTime, Overloaded
from batcher.limits import Limits
from batcher.request import FIRST_BULK, Request
from batcher.scheduling.arrivals import Arrivals
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel

# One caller may hold this many times the places that are still free: 8/9 of the queue if alone,
# about 1/k each if k are greedy, and a new caller finds room (Choudhury and Hahne, "Dynamic queue
# length thresholds for shared-memory packet switches", 1998).
SHARE = 8
_MAX_INTERACTIVE_SHARE = 0.9  # of the replicas' time, as assumed when bulk is admitted
HOPELESS = 1.5  # times the time there is: what is predicted to take longer is refused for good
_free_at = attrgetter("free_at")


_NONE = Arrivals()


def refusal(
    pending: Pending,
    requests: Sequence[Request],
    limits: Limits,
    replicas: Sequence[ReplicaModel],
    up: Sequence[ReplicaModel],
    now: float,
    overhead: float,
    arrivals: Arrivals,
    to_come: int = 0,
) -> BatcherError | None:
    """Why these may not be queued; None: they may, all of them. O(requests + replicas).

    `up`: those of the replicas that are; `overhead`: seconds of an answer beside its batch;
    `to_come`: rows that are not queued yet and will be before these. Requests of one call have the
    same caller, priority and deadline.
    """
    asked, first = len(requests), requests[0]
    tokens = first.cost if asked == 1 else sum([request.cost for request in requests])
    if asked > 1 and (asked > limits.max_queue_size or tokens > limits.max_queue_tokens):
        return CallTooLarge(
            f"{asked} inputs of {tokens} tokens at once: at most max_queue_size="
            f"{limits.max_queue_size} inputs of max_queue_tokens={limits.max_queue_tokens} tokens"
            " may wait; send fewer at once"
        )
    why = _no_room(pending, first, asked, tokens, limits)
    if why is not None:
        return Overloaded(why, seconds_until(pending.rows, up, now, arrivals))
    if first.deadline == math.inf or not up:
        return None
    if asked > 1 and (pending.rows or all(each.may_refuse_for_good(now) for each in up)):
        never = _never_in_time(requests, first.deadline - now, replicas)
        if never is not None:
            return never
    if not pending.rows and any(replica.may_test_prediction(now) for replica in up):
        return None  # only a run can correct the prediction
    ahead = pending.place_of(first, tokens) + to_come
    finish = overhead + seconds_until(ahead + asked, up, now, arrivals, first.priority)
    finish += up[0].pace.extra_for_length(asked, tokens)
    if now + finish <= first.deadline:
        return None
    why = f"it is predicted to take {finish:.2f} s, {now + finish - first.deadline:.2f} s too long"
    return Overloaded(why, finish)


def _never_in_time(
    requests: Sequence[Request], left: float, replicas: Sequence[ReplicaModel]
) -> NeverInTime | None:
    """`replicas`: all there are: one that is down will be up for the next try."""
    rows = {request.key or request: request.cost for request in requests}  # equal ones run once
    known = [replica for replica in replicas if replica.cost.observations]
    alone = min(
        [each.seconds_at_least(len(rows), sum(rows.values())) for each in known], default=0.0
    ) / len(replicas)
    if left <= 0.0 or alone <= HOPELESS * left:
        return None
    most = int(len(requests) * left / (HOPELESS * alone))
    advice = f"send at most {most} at once, or allow more time" if most else "allow more time"
    return NeverInTime(
        f"{len(requests)} inputs at once take {alone:.1f} s even on an idle engine, and are wanted"
        f" in {left:.1f} s: {advice}"
    )


def _no_room(
    pending: Pending, first: Request, asked: int, tokens: int, limits: Limits
) -> str | None:
    """Which bound has no room. (A call may bring more tokens than allowed to an empty queue.)"""
    waiting = len(pending.line)
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
    held = 0 if first.caller is None else pending.held.get(first.caller, 0)
    if held and held + asked > SHARE * free:
        return f"{held} requests of yours wait, which leaves too little room for other callers"
    return None


def seconds_until(
    rows: int,
    replicas: Sequence[ReplicaModel],
    now: float,
    arrivals: Arrivals = _NONE,
    priority: int = 0,
) -> float:
    """Seconds until so many rows are done: full batches at their predicted time behind what runs
    now, the last one with its margin. Requests that arrive before the last batch is cut join it,
    but no bulk joins interactive ones. Interactive arrivals go before bulk and make its batches
    smaller. 0 while nothing is known."""
    if not rows or not replicas:
        return 0.0
    bulk = priority >= FIRST_BULK
    if len(replicas) == 1:
        replica = replicas[0]
        pace = replica.pace
        round_, rest = divmod(rows, pace.size)
    else:
        pace = min(replicas, key=_free_at).pace
        batches, rest = divmod(rows, pace.size)
        round_, place = divmod(batches if rest else batches - 1, len(replicas))
        # The batch goes to the replica that is free once those before it are handed out.
        replica = sorted(replicas, key=_free_at)[place]
        if not rest:
            rest = pace.size
    start = max(0.0, replica.free_at - now) + round_ * pace.full_batch
    if bulk and pace.full_batch:
        taken = arrivals.interactive * pace.full_batch / (pace.size * len(replicas))
        start /= replica.fullness * (1.0 - min(_MAX_INTERACTIVE_SHARE, taken))
    if not rest:
        return start + pace.margin * pace.full_batch
    company = arrivals.interactive + (arrivals.bulk if bulk else 0.0)
    return start + pace.upper_bound(min(pace.size, rest + int(company * start)))
