"""How long code of the user's own may run: as long as its callers wait. Pure: time is handed in.

An encoder's time follows from its tokens, so its bound is tight. With `hang_by_deadline` the bound
is never below the time that is left to the last of a batch's callers. Those of several rows keep
half of it, to run again if one row has hung; and so does a row that has been lost before, for those
that wait behind it.
"""

from __future__ import annotations

from batcher.request import Request
from batcher.scheduling.selection import Selection

_SHARE = 0.5  # of the time that is left, where others want some of it


def time_left(selection: Selection, now: float) -> float:
    """What a batch may take of the time until the last of its deadlines."""
    requests: list[Request] = [*selection.taken]
    for others in selection.duplicates.values():
        requests += others
    left = max(request.deadline for request in requests) - now
    is_alone = len(selection.taken) == 1 and not selection.taken[0].workers_lost
    return left if is_alone else _SHARE * left
