"""How many connections the limit on open files leaves room for."""

from __future__ import annotations

import resource

_RESERVE = 128  # for workers, logs, models and whatever a library opens


def room_for(connections: int) -> int:
    """So many, or fewer. Raises the process's own limit as far as it must and may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _limit_for(connections, soft, hard)
    if limit != soft:
        # No further than needed: with a limit of a billion, programs that close every
        # descriptor there could be before they start another take minutes.
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return bound(connections, limit)


def bound(connections: int, limit: int) -> int:
    if limit == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, limit - min(_RESERVE, limit // 2)))


def _limit_for(connections: int, soft: int, hard: int) -> int:
    wanted = connections + _RESERVE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
