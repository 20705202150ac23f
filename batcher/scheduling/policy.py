"""When is a batch due, and which requests go in it. Pure: no clock, no lock, no I/O.

Take-all, bound late: a free replica takes everything that waits, up to the limits. Under Poisson
arrivals that is within 0.65 % of the best control limit on mean latency, so max_wait is 0 unless
the user says otherwise, and it counts from the arrival of the oldest request.

Two things are left for a later batch: what differs so much in length that padding would cost more
than a batch of its own, and bulk work that would hold up interactive work for long. Neither for
ever: whoever has been passed over a few times is what the next batch is built around.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from batcher.limits import Limits
from batcher.request import Request, is_bulk
from batcher.scheduling.lengths import neighbours
from batcher.scheduling.pending import PUT_BACK, Pending
from batcher.scheduling.replica_model import Device
from batcher.supervision.recovery import runs_alone

NOW = float("-inf")
WINDOW = 128  # requests, first in order, among which a batch is looked for
MOST_PASSED = 8  # times that a request may be passed over
_ROUNDS = 4  # of leaving out who is late, for one batch; the others are found by the next
_WASTE = 0.05  # of its time may go into padding before lengths are looked at


@dataclass(slots=True)
class Fill:
    """What a batch cut at this instant would hold, and whom it would leave behind."""

    taken: list[Request] = field(default_factory=list)  # one for each row
    twins: dict[int, list[Request]] = field(default_factory=dict)  # by row: who waits for the same
    late: list[Request] = field(default_factory=list)  # they cannot be in time, and never run
    passed: list[Request] = field(default_factory=list)  # whose turn it was, and who are not taken
    reason: str = ""
    tokens: int = 0  # as run, padding included
    predicted: float = 0.0  # seconds


def due(pending: Pending, limits: Limits, device: Device, hold: float = NOW) -> float:
    """The time at which a free replica should cut a batch; NOW for at once. Never on empty.

    `hold`: until then it may wait for callers that come back.
    """
    if pending.rows >= device.max_batch_size or pending.is_retry:
        return NOW
    time = max(hold, pending.oldest.arrival + limits.max_wait) if limits.max_wait else hold
    return NOW if time == NOW or _room_used_up(pending, device) else time


def fill(
    pending: Pending, device: Device, now: float, overhead: float = 0.0, most: int | None = None
) -> Fill:
    """Chooses a batch that starts now and removes nothing. `most`: rows, if it is to be fewer than
    the device would take. O(WINDOW log WINDOW), and O(batch) where lengths do not
    matter; more only where many are late.

    Whoever would get the answer too late, `overhead` seconds after the batch and with its margin,
    is left out and their place is filled. Only where that is most of the batch, it runs smaller,
    and so in time for more of them. If nobody could be in time, and the device has run nothing for
    a while, those who came first run all the same: only a run can show that it is faster than
    predicted.
    """
    late: dict[Request, None] = {}
    first: Fill | None = None
    for _ in range(_ROUNDS):
        chosen = _choose(pending, device, now, late, overhead, most or device.max_batch_size)
        if not chosen.taken:
            break
        first = first or chosen
        finish = now + chosen.predicted * (1.0 + device.cost.margin) + overhead
        hopeless = [request for request in chosen.taken if request.deadline < finish]
        if 2 * len(hopeless) > len(chosen.taken):
            smaller = _smaller(chosen, device, now + overhead)
            if smaller.taken:
                late.update(dict.fromkeys(set(chosen.taken).difference(smaller.taken)))
                chosen, hopeless = smaller, []
        if not hopeless:
            chosen.late = list(late)
            return chosen
        late.update(dict.fromkeys(hopeless))
    if first is None or not device.is_untried(now):
        return Fill(late=list(late))
    first.late = [request for request in late if request.deadline <= now]
    return first


def _smaller(fill: Fill, device: Device, now: float) -> Fill:
    """Without as few of the most urgent as it takes for all the others to be in time."""
    urgent = sorted(fill.taken, key=_deadline)
    tokens_each = fill.tokens // len(urgent)
    for gone in range(1, len(urgent)):
        size = len(urgent) - gone
        most = device.cost.predict(size, size * tokens_each) * (1.0 + device.cost.margin)
        if now + most <= urgent[gone].deadline:
            left_out = set(urgent[:gone])
            kept = [request for request in fill.taken if request not in left_out]
            costs = [request.cost for request in kept]
            tokens = device.runs(size, max(costs), sum(costs))
            predicted = device.cost.predict(size, tokens)
            return Fill(kept, {}, [], fill.passed, "deadline", tokens, predicted)
    return Fill()


def _deadline(request: Request) -> float:
    return request.deadline


def _choose(
    pending: Pending,
    device: Device,
    now: float,
    late: dict[Request, None],
    overhead: float,
    most: int,
) -> Fill:
    """One batch without those who are late, to whom it adds those whose deadline has passed."""
    line = iter(pending)
    window: list[Request] = []
    if pending.oldest.passed >= MOST_PASSED:
        # The oldest of all, and some of its age, go before whoever is more urgent.
        window = _in_time(pending.by_age(), max(1, most // 4), pending, now, late)
    aged = set(window)
    window += _in_time(line, most - len(window), pending, now, late, window)
    if not window:
        return Fill()
    if window[0].rank[0] == PUT_BACK:
        return _again(window, device)
    own = _of_the_lane(window, aged)
    result = _in_order(own, device)
    anchor = next((at for at, each in enumerate(result.taken) if each.passed >= MOST_PASSED), 0)
    if not device.padding_free and (anchor or _is_wasteful(result, device)):
        count = min(WINDOW, 4 * most) - len(window)
        window += _in_time(line, count, pending, now, late, window)
        own = _of_the_lane(window, aged)
        by_length = _of_like_length(own, anchor, device, most)
        taken = set(by_length.taken)
        by_length.passed = [each for each in result.taken if each not in taken]
        result = by_length
    if len(own) < len(window):
        _add_bulk(result, window, device, now, overhead, most)
    result.predicted = device.cost.predict(len(result.taken), result.tokens)
    return result


def _of_the_lane(window: Sequence[Request], aged: set[Request]) -> list[Request]:
    """Those who are interactive, and those who have waited long; all, if all are bulk."""
    own = [each for each in window if not is_bulk(each.priority) or each in aged]
    return own if len(own) > len(aged) else list(window)


def _in_time(
    line: Iterator[Request],
    count: int,
    pending: Pending,
    now: float,
    late: dict[Request, None],
    before: Sequence[Request] = (),
) -> list[Request]:
    """The next `count` of the line that can be in time; of equals the first: they share a row."""
    found: list[Request] = []
    chosen = set(before)
    seen = {request.key for request in before} if pending.has_equals else None
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


def _is_first(key: Hashable, seen: set[Hashable]) -> bool:
    """Of its equals; those without a key have none."""
    if key is None:
        return True
    if key in seen:
        return False
    seen.add(key)
    return True


def _in_order(line: Sequence[Request], device: Device) -> Fill:
    """Until the size, the padded tokens or the memory are used up."""
    result = Fill()
    longest = useful = 0
    for request in line:
        size = len(result.taken) + 1
        longer = request.cost if request.cost > longest else longest
        tokens = device.runs(size, longer, useful + request.cost)
        if size > 1 and not device.fits(size, tokens):
            result.reason = device.misfit(tokens)
            break
        result.taken.append(request)
        longest, useful = longer, useful + request.cost
    return _closed(result, longest, useful, device)


def _again(line: Sequence[Request], device: Device) -> Fill:
    """Requests that a worker was lost with share a batch only with their like: whoever was not
    aboard must not be drawn into what they may do again."""
    losses = line[0].losses
    like = line[:1] if runs_alone(losses) else [each for each in line if each.losses == losses]
    result = _in_order(like, device)
    result.reason = "retry"
    result.predicted = device.cost.predict(len(result.taken), result.tokens)
    return result


def _of_like_length(line: Sequence[Request], anchor: int, device: Device, most: int) -> Fill:
    costs = [request.cost for request in line]
    places = neighbours(costs, anchor, device.cost.weights, most, device.safe_tokens)
    result = Fill([line[place] for place in places])
    if len(places) < len(line):
        result.reason = "lengths"
    useful = sum([costs[place] for place in places])
    return _closed(result, costs[places[-1]], useful, device)


def _add_bulk(
    result: Fill,
    window: Sequence[Request],
    device: Device,
    now: float,
    overhead: float,
    most: int,
) -> None:
    """As long as nobody who is in already gets the answer later than one whole batch after they
    would have had it from a free device, or too late: that is what bulk may cost the others."""
    taken = set(result.taken)
    fixed, each, per_token = device.cost.weights
    costs = [request.cost for request in result.taken]
    longest, useful = max(costs), sum(costs)
    alone = fixed + each * len(taken) + per_token * result.tokens
    waited = now - min([request.arrival for request in taken])
    soonest = min([request.deadline for request in taken]) - now - overhead
    patience = min(alone + device.pace.whole - waited, soonest / (1.0 + device.cost.margin))
    for request in window:
        if not is_bulk(request.priority) or request in taken:
            continue
        size = len(result.taken) + 1
        longer = max(longest, request.cost)
        tokens = device.runs(size, longer, useful + request.cost)
        fits = size <= most and device.fits(size, tokens)
        if fits and fixed + each * size + per_token * tokens <= patience:
            result.taken.append(request)
            longest, useful = longer, useful + request.cost
        else:
            result.reason = result.reason or "lanes"
            if longer == longest:  # not even one as short as the others
                break
    _closed(result, longest, useful, device)


def _closed(result: Fill, longest: int, useful: int, device: Device) -> Fill:
    size = len(result.taken)
    result.tokens = device.runs(size, longest, useful)
    if size == device.max_batch_size:
        result.reason = "full"
    elif device.runs(size + 1, longest, useful + 1) > device.max_batch_tokens:
        result.reason = "tokens"
    return result


def _is_wasteful(result: Fill, device: Device) -> bool:
    """Does padding take more of its time than looking for something better is worth?"""
    padding = result.tokens - sum(request.cost for request in result.taken)
    if not padding:
        return False
    per_token = device.cost.weights[2]
    return per_token * padding > _WASTE * device.cost.predict(len(result.taken), result.tokens)


def _room_used_up(pending: Pending, device: Device) -> bool:
    """Is there no room for one more, however short? O(batch), and only asked before a wait."""
    longest = useful = 0
    rows = _in_time(iter(pending), device.max_batch_size, pending, NOW, {})
    for count, request in enumerate(rows, start=1):
        longest, useful = max(longest, request.cost), useful + request.cost
        if not device.fits(count + 1, device.runs(count + 1, longest, useful + 1)):
            return True
    return False
