"""Which of those that wait make a batch that wastes little on padding. Pure numbers.

A batch pays for its longest member as many times as it has members. Of all runs of neighbours in
length that hold the anchor, the one with the most work for its time is best: work is a member's own
tokens and its share of what a batch costs anyway. (Splitting a sorted pool by dynamic programming,
as TurboTransformers does, looks for the same thing over the whole pool at once; anchored on the
oldest and with the pool filled up between batches, this gives as much useful work.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate


def neighbours(
    costs: Sequence[int],
    anchor: int,
    weights: tuple[float, float, float],
    max_size: int,
    fits: Callable[[int, int], bool],
) -> list[int]:
    """Places in `costs`, the anchor among them, in order of length.

    `costs` are tokens, in the order of service; `weights` are seconds per batch, per member and per
    padded token; `fits` says whether so many members with so many padded tokens may go together.
    Of equals the first in order go. O(n log n).
    """
    fixed, per_member, per_token = weights
    order = sorted(range(len(costs)), key=costs.__getitem__)  # stable: equals stay in order
    sorted_costs = [costs[place] for place in order]
    pivot = order.index(anchor)
    share = per_member + fixed / max_size
    work = [0.0, *accumulate(share + per_token * cost for cost in sorted_costs)]
    best, span = 0.0, (pivot, pivot)
    last = min(len(order), pivot + max_size)
    for right in range(pivot, last):
        longest = sorted_costs[right]
        left, size = pivot, right - pivot + 1
        if size > 1 and not fits(size, size * longest):
            break
        is_followed = right + 1 < last and sorted_costs[right + 1] == longest
        if is_followed and fits(size + 1, (size + 1) * longest):
            continue  # taking one of a length and leaving its equal never pays
        each = per_member + per_token * longest
        value = work[right + 1] - work[left]
        rate = value / (fixed + each * size)
        while left > 0 and size < max_size:
            # Shorter and shorter: once one of them lowers the rate, all the rest would.
            more = value + work[left] - work[left - 1]
            better = more / (fixed + each * (size + 1))
            if better < rate or not fits(size + 1, (size + 1) * longest):
                break
            left, size, value, rate = left - 1, size + 1, more, better
        if rate > best:
            best, span = rate, (left, right)
    left, right = span
    # The shortest length may be there in part: its first in order go, not its last.
    first = left
    while first > 0 and sorted_costs[first - 1] == sorted_costs[left] and first - 1 != pivot:
        first -= 1
    part = left
    while part < pivot and sorted_costs[part] == sorted_costs[left]:
        part += 1
    return order[first : first + part - left] + order[part : right + 1]
