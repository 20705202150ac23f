"""Which waiting requests go in a batch that is cut now. Pure: no clock, no lock, no I/O. (When a
batch is due: schedule.)

Two kinds are left for a later batch: requests of such different length that padding would cost more
than a batch of their own, and bulk requests that would delay interactive ones for long. Nobody is
skipped for ever: a request that was skipped MAX_SKIPPED times is what the next batch is built
around.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from batcher.request import ALONE, FIRST_BULK, CloseReason, Request
from batcher.scheduling.lengths import neighbours
from batcher.scheduling.pending import PUT_BACK, Pending
from batcher.scheduling.replica_model import ReplicaModel

WINDOW = 128  # requests, first in order, among which a batch is chosen
MAX_SKIPPED = 8  # times that a request may be skipped
_ROUNDS = 4  # of leaving out late requests for one batch; the next batch finds the rest
_ROUNDS_BEFORE_A_TEST = 64  # no request runs only as a test while a later one would be in time
_MAX_PADDING = 0.05  # of a batch's time; with more, like lengths are looked for


@dataclass(slots=True)
class Selection:
    """What a batch cut at this instant would hold, and what it would leave behind."""

    taken: list[Request] = field(default_factory=list)  # one for each row
    duplicates: dict[int, list[Request]] = field(default_factory=dict)  # by row: the same input
    late: list[Request] = field(default_factory=list)  # cannot be in time: never run
    skipped: list[Request] = field(default_factory=list)  # their turn, but not taken
    reason: CloseReason | None = None  # None: it took all that wait
    tokens: int = 0  # as run, padding included
    useful_tokens: int = 0
    predicted: float = 0.0  # seconds


def select(
    pending: Pending,
    replica: ReplicaModel,
    now: float,
    overhead: float = 0.0,
    most: int | None = None,
) -> Selection:
    """Chooses a batch that starts now, and removes nothing. `most`: rows, if fewer than the replica
    would take. O(WINDOW log WINDOW), and O(batch) where lengths do not matter; more only where many
    are late.

    Requests predicted to miss their deadline (by the batch's time with its margin, and `overhead`
    seconds) are left out and replaced. If that would drop more than half, a smaller batch is cut
    instead. If all would miss and the replica has been idle for a while, they run anyway: only a
    run can correct the prediction.
    """
    late: dict[Request, None] = {}
    first: Selection | None = None
    may_test = replica.may_test_prediction(now)
    for _ in range(_ROUNDS_BEFORE_A_TEST if may_test else _ROUNDS):
        chosen = _choose(pending, replica, now, late, overhead, most or replica.max_batch_size)
        if not chosen.taken:
            break
        first = first or chosen
        finish = now + chosen.predicted * (1.0 + replica.cost.margin) + overhead
        too_late = [request for request in chosen.taken if request.deadline < finish]
        if 2 * len(too_late) > len(chosen.taken):
            smaller = _smaller(chosen, replica, now + overhead)
            if smaller.taken:
                late.update(dict.fromkeys(set(chosen.taken).difference(smaller.taken)))
                chosen, too_late = smaller, []
        if not too_late:
            chosen.late = list(late)
            return chosen
        late.update(dict.fromkeys(too_late))
    if first is None or not may_test:
        return Selection(late=list(late))
    first.late = [request for request in late if request.deadline <= now]
    return first


def _smaller(selection: Selection, replica: ReplicaModel, now: float) -> Selection:
    """Drops as few of the most urgent as it takes for all the others to be in time."""
    urgent = sorted(selection.taken, key=attrgetter("deadline"))
    tokens_per_row = selection.tokens // len(urgent)
    for dropped in range(1, len(urgent)):
        size = len(urgent) - dropped
        longest = replica.cost.predict(size, size * tokens_per_row) * (1.0 + replica.cost.margin)
        if now + longest <= urgent[dropped].deadline:
            left_out = set(urgent[:dropped])
            kept = [request for request in selection.taken if request not in left_out]
            costs = [request.cost for request in kept]
            tokens = replica.tokens_run(size, max(costs), sum(costs))
            predicted = replica.cost.predict(size, tokens)
            return Selection(
                kept, {}, [], selection.skipped, "deadline", tokens, sum(costs), predicted
            )
    return Selection()


def _choose(
    pending: Pending,
    replica: ReplicaModel,
    now: float,
    late: dict[Request, None],
    overhead: float,
    most: int,
) -> Selection:
    """One batch without the `late` requests; adds to them those whose deadline has passed."""
    line = iter(pending.line)
    window: list[Request] = []
    if next(iter(pending.by_age)).times_skipped >= MAX_SKIPPED:
        # The oldest of all, and some of its age, go before more urgent ones.
        window = in_time(iter(pending.by_age), max(1, most // 4), pending, now, late)
    aged = set(window)
    window += in_time(line, most - len(window), pending, now, late, window)
    if not window:
        return Selection()
    if window[0].order_key[0] == PUT_BACK:
        return _retry(window, replica)
    own = _of_lane(window, aged)
    result = _in_order(own, replica)
    anchor = next(
        (at for at, each in enumerate(result.taken) if each.times_skipped >= MAX_SKIPPED), 0
    )
    if not replica.padding_free and (anchor or _is_wasteful(result, replica)):
        count = min(WINDOW, 4 * most) - len(window)
        window += in_time(line, count, pending, now, late, window)
        own = _of_lane(window, aged)
        by_length = _of_like_length(own, anchor, replica, most)
        taken = set(by_length.taken)
        by_length.skipped = [each for each in result.taken if each not in taken]
        result = by_length
    if len(own) < len(window):
        _add_bulk(result, window, replica, now, overhead, most)
    fixed, per_row, per_token = replica.cost.weights
    result.predicted = fixed + per_row * len(result.taken) + per_token * result.tokens
    return result


def _of_lane(window: Sequence[Request], aged: set[Request]) -> list[Request]:
    """The interactive and the aged ones; all, if all the others are bulk."""
    own = [each for each in window if each.priority < FIRST_BULK or each in aged]
    return own if len(own) > len(aged) else list(window)


def in_time(
    line: Iterator[Request],
    count: int,
    pending: Pending,
    now: float,
    late: dict[Request, None],
    before: Sequence[Request] = (),
) -> list[Request]:
    """The next `count` of the line that can be in time. Of equal inputs only the first: the others
    share its row."""
    found: list[Request] = []
    chosen = set(before)
    has_equals = pending.rows < len(pending.line) or all(pending.equal)
    seen = {request.key for request in before} if has_equals else None
    while len(found) < count:
        some = list(islice(line, count - len(found)))
        if not some:
            break
        expired = [request for request in some if request.deadline <= now]
        if expired:
            late.update(dict.fromkeys(expired))
        if late or chosen:
            some = [each for each in some if each not in late and each not in chosen]
        if seen is not None:
            some = [request for request in some if _is_first(request.key, seen)]
        found += some
    return found


def is_full(pending: Pending, replica: ReplicaModel) -> bool:
    """Would a batch of what waits have no room for another request, however short? O(batch)."""
    longest = useful = 0
    rows = in_time(iter(pending.line), replica.max_batch_size, pending, -math.inf, {})
    for count, request in enumerate(rows, start=1):
        longest, useful = max(longest, request.cost), useful + request.cost
        if not replica.fits(count + 1, replica.tokens_run(count + 1, longest, useful + 1)):
            return True
    return False


def _is_first(key: Hashable, seen: set[Hashable]) -> bool:
    """Of its equals; a request without a key has none."""
    if key is None:
        return True
    if key in seen:
        return False
    seen.add(key)
    return True


def _in_order(line: Sequence[Request], replica: ReplicaModel) -> Selection:
    """From the front, until the size, the padded tokens or the memory are used up."""
    result = Selection()
    longest = useful = 0
    for request in line:
        size = len(result.taken) + 1
        longer = request.cost if request.cost > longest else longest
        tokens = useful + request.cost if replica.padding_free else size * longer
        if size > 1 and not replica.fits(size, tokens):
            result.reason = "tokens" if tokens > replica.max_batch_tokens else "memory"
            break
        result.taken.append(request)
        longest, useful = longer, useful + request.cost
    return _closed(result, longest, useful, replica)


def _retry(line: Sequence[Request], replica: ReplicaModel) -> Selection:
    """Requests that were aboard when a worker was lost share a batch only with others that have
    lost as many workers: they may kill the next one, and others must not be drawn into it."""
    lost = line[0].workers_lost
    alike = line[:1] if lost >= ALONE else [each for each in line if each.workers_lost == lost]
    result = _in_order(alike, replica)
    result.reason = "retry"
    result.predicted = replica.cost.predict(len(result.taken), result.tokens)
    return result


def _of_like_length(
    line: Sequence[Request], anchor: int, replica: ReplicaModel, most: int
) -> Selection:
    costs = [request.cost for request in line]
    places = neighbours(costs, anchor, replica.cost.weights, most, replica.safe_tokens)
    result = Selection([line[place] for place in places])
    if len(places) < len(line):
        result.reason = "lengths"
    useful = sum([costs[place] for place in places])
    return _closed(result, costs[places[-1]], useful, replica)


def _add_bulk(
    result: Selection,
    window: Sequence[Request],
    replica: ReplicaModel,
    now: float,
    overhead: float,
    most: int,
) -> None:
    """Adds bulk requests within a latency budget: none of those already in may get its answer more
    than one full batch later than from a free replica, nor after its deadline."""
    taken = set(result.taken)
    fixed, per_row, per_token = replica.cost.weights
    costs = [request.cost for request in result.taken]
    longest, useful = max(costs), sum(costs)
    without = fixed + per_row * len(taken) + per_token * result.tokens
    waited = now - min([request.arrival for request in taken])
    soonest = min([request.deadline for request in taken]) - now - overhead
    in_deadline = soonest / (1.0 + replica.cost.margin)
    latency_budget = min(without + replica.pace.full_batch - waited, in_deadline)
    for request in window:
        if request.priority < FIRST_BULK or request in taken:
            continue
        size = len(result.taken) + 1
        longer = max(longest, request.cost)
        tokens = replica.tokens_run(size, longer, useful + request.cost)
        fits = size <= most and replica.fits(size, tokens)
        if fits and fixed + per_row * size + per_token * tokens <= latency_budget:
            result.taken.append(request)
            longest, useful = longer, useful + request.cost
        else:
            result.reason = result.reason or "lanes"
            if longer == longest:  # not even one as short as the others
                break
    _closed(result, longest, useful, replica)


def _closed(result: Selection, longest: int, useful: int, replica: ReplicaModel) -> Selection:
    size = len(result.taken)
    result.useful_tokens = useful
    is_free = replica.padding_free
    result.tokens = useful if is_free else size * longest
    if size == replica.max_batch_size:
        result.reason = "full"
    elif (useful + 1 if is_free else (size + 1) * longest) > replica.max_batch_tokens:
        result.reason = "tokens"
    return result


def _is_wasteful(result: Selection, replica: ReplicaModel) -> bool:
    """Does padding take more of the batch's time than looking for something better is worth?"""
    padding = result.tokens - result.useful_tokens
    if not padding:
        return False
    per_token = replica.cost.weights[2]
    return per_token * padding > _MAX_PADDING * replica.cost.predict(
        len(result.taken), result.tokens
    )
