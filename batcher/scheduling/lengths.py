"""Which of those that wait make a batch that wastes little on padding. Pure numbers.

A batch pays for its longest member as many times as it has members. Of all runs of neighbours in
length that hold the anchor, the one with the most work for its time is best: work is a member's own
tokens and its share of what a batch costs anyway. (Splitting a sorted pool by dynamic programming,
as TurboTransformers does, looks for the same thing over the whole pool at once; anchored on the
oldest and with the pool filled up between batches, this gives as much useful work.)

A run that takes clearly longer than two batches in its place is cut in two first. A few short texts
waste most of a batch's fixed time, so that a long text beside them does look like more work for its
time; it takes less time to run the two one after the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

# Times the fixed time of a batch. A batch more costs its callers and the HTTP process something as
# well, and the times are predicted.
_MIN_GAIN = 1.5


def neighbours(
    costs: Sequence[int],
    anchor: int,
    weights: tuple[float, float, float],
    max_size: int,
    max_tokens: float,
) -> list[int]:
    """Places in `costs`, the anchor among them, in order of length.

    `costs` are tokens, in the order of service; `weights` are seconds per batch, per member and per
    padded token; `max_tokens` are with their padding. Of equals the first in order go. A loop for
    every length above the anchor's over those below it: O(n log n) in practice.
    """
    fixed, _, per_token = weights
    order = sorted(range(len(costs)), key=costs.__getitem__)  # stable: equals stay in order
    lengths = [costs[place] for place in order]
    pivot = bisect_left(lengths, costs[anchor])
    order.remove(anchor)
    order.insert(pivot, anchor)  # before its equals: those of them that go are then the first
    start, end = 0, min(len(order), pivot + max_size)
    while True:
        left, right = _best_run(lengths, pivot, start, end, weights, max_size, max_tokens)
        saved, cut = _best_cut(lengths, left, right)
        if saved * per_token <= _MIN_GAIN * fixed:
            break
        start, end = (start, cut) if pivot < cut else (cut, end)
    # The shortest length may be there in part: its first in order go, not its last.
    shortest = lengths[left]
    first = bisect_left(lengths, shortest, 0, left)
    part = bisect_right(lengths, shortest, left, pivot)
    return order[first : first + part - left] + order[part : right + 1]


def _best_run(
    lengths: Sequence[int],
    pivot: int,
    start: int,
    end: int,
    weights: tuple[float, float, float],
    max_size: int,
    max_tokens: float,
) -> tuple[int, int]:
    """First and last of the run within start:end that holds the pivot and does the most work for
    its time."""
    fixed, per_member, per_token = weights
    share = per_member + fixed / max_size
    work = [0.0, *accumulate([share + per_token * length for length in lengths])]
    best, run = 0.0, (pivot, pivot)
    for right in range(pivot, end):
        longest = lengths[right]
        size = right - pivot + 1
        most = min(max_size, int(max_tokens / longest))
        if size > max(1, most):
            break
        if size < most and right + 1 < end and lengths[right + 1] == longest:
            continue  # taking one of a length and leaving its equal never pays
        each = per_member + per_token * longest
        left, done = pivot, work[right + 1]
        rate = (done - work[left]) / (fixed + each * size)
        while left > start and size < most:
            # Shorter and shorter: once one of them lowers the rate, all the rest would.
            better = (done - work[left - 1]) / (fixed + each * (size + 1))
            if better < rate:
                break
            left, size, rate = left - 1, size + 1, better
        if rate > best:
            best, run = rate, (left, right)
    return run


def _best_cut(lengths: Sequence[int], left: int, right: int) -> tuple[int, int]:
    """The padded tokens that two batches save, at most, and where the second of them begins."""
    longest, best, cut = lengths[right], 0, right + 1
    for end in range(left + 1, right + 1):
        saved = (end - left) * (longest - lengths[end - 1])
        if saved > best:
            best, cut = saved, end
    return best, cut
