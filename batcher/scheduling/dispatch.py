"""Dispatch: which of several replicas takes how much of what waits. Pure: no lock, no clock.

With one replica there is nothing to decide, and the schedule does not ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from batcher.scheduling.replica_model import ReplicaModel

_SLOW = 3.0  # times the time that another replica takes for a full batch
_TIMER_RESOLUTION = 0.001  # seconds that a waiting thread can tell apart
_MIN_ROW_SECONDS = 1e-9
_ROUNDING = 1e-6  # rows


def share(replica: ReplicaModel, replicas: Sequence[ReplicaModel], rows: int, now: float) -> int:
    """How many of the waiting rows this replica takes; the rest goes to the next one free.

    Those that it would finish first if each row went where it is expected to finish soonest (least
    expected completion), and of the rest a share equal to the fixed share of its batch time: where
    rows cost next to nothing, two batches in place of one only keep two replicas from those who
    come next. O(replicas log replicas).
    """
    # Times count from now: the time since the machine was started and the time of a row that costs
    # next to nothing do not fit into one number.
    rate = filled = level = 0.0
    for start, per_row in sorted([_start(each, now) for each in replicas if each.is_up]):
        if rate and level <= start:
            break
        rate, filled = rate + 1.0 / per_row, filled + start / per_row
        level = (rows + filled) / rate  # the time at which all would be done
    start, per_row = _start(replica, now)
    first = math.ceil((level - start) / per_row - _ROUNDING)
    if first <= 0:
        return 0
    most = min(rows, replica.max_batch_size)
    pace = replica.pace
    fixed_share = pace.fixed / pace.full_batch if pace.full_batch else 1.0
    return max(1, min(most, first + int(fixed_share * max(0, most - first))))


def others_take_until(replica: ReplicaModel, replicas: Sequence[ReplicaModel]) -> float:
    """Until when a replica whose share is 0 leaves what waits to the others. inf: a faster one is
    idle and takes it, since it looks whenever anything changes. -inf: none is up and busy."""
    fixed = replica.pace.fixed
    if any(each.pace.fixed + _TIMER_RESOLUTION < fixed for each in _idle(replicas)):
        return math.inf
    busy = [each.free_at for each in replicas if each.is_up and each.batches]
    return min(busy) + fixed if busy else -math.inf


def is_another_idle(replica: ReplicaModel, replicas: Sequence[ReplicaModel]) -> bool:
    """One that would start at once, so that waiting is in vain. A far slower one does not count."""
    longest = _SLOW * replica.pace.full_batch
    return any(each is not replica and each.pace.full_batch <= longest for each in _idle(replicas))


def soonest(free: Iterable[int], replicas: Sequence[ReplicaModel]) -> int:
    """Which of these, by index, would answer first."""
    return min(free, key=lambda index: (replicas[index].pace.fixed, index))


def is_slow(replica: ReplicaModel, replicas: Sequence[ReplicaModel]) -> bool:
    """Is it far slower than another one? Then it gets next to no work, and only a canary can show
    that it has recovered."""
    own = replica.pace.full_batch
    return any(each.is_up and 0.0 < _SLOW * each.pace.full_batch < own for each in replicas)


def dependable(replicas: Sequence[ReplicaModel]) -> Sequence[ReplicaModel]:
    """Those that are up, without the far slower ones: no promise is made on what these may do."""
    up = [replica for replica in replicas if replica.is_up]
    if len(up) > 1:
        known = [replica.pace.full_batch for replica in up if replica.pace.full_batch]
        longest = _SLOW * min(known, default=math.inf)
        up = [replica for replica in up if replica.pace.full_batch <= longest]
    return up


def _idle(replicas: Sequence[ReplicaModel]) -> list[ReplicaModel]:
    return [each for each in replicas if each.is_up and not each.batches]


def _start(replica: ReplicaModel, now: float) -> tuple[float, float]:
    """In how many seconds its next batch would be done but for its rows, and the seconds of each
    row. A batch that is overdue may take as long again."""
    free_in = abs(replica.free_at - now) if replica.batches else 0.0
    return free_in + replica.pace.fixed, max(replica.pace.per_row, _MIN_ROW_SECONDS)
