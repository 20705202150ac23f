"""Which cores a worker has, and how many threads it makes on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.placement import cgroup

TOPOLOGY = Path("/sys/devices/system/cpu")

Core = tuple[int, ...]  # the numbers of one physical core's hardware threads


@dataclass(frozen=True, slots=True)
class Share:
    """What one CPU replica computes with."""

    cores: tuple[int, ...] = ()  # as Linux numbers them; empty: any
    threads: int = 0  # 0: the worker sees for itself


def default_threads(cores: int, replicas: int) -> int:
    """The cores shared out among the replicas; from four cores up, one is left to the frontend.

    On two cores both: 64 callers got 204 and 159 answers/s against 121 and 128 with one thread.
    """
    return max(1, (cores - spared(cores)) // max(1, replicas))


def spared(cores: int) -> int:
    """Left to the frontend."""
    return 1 if cores >= 4 else 0


def share_out(cores: Sequence[Core], quota: int, replicas: int, threads: int = 0) -> list[Share]:
    """Disjoint sets of equal size, each of cores that follow each other; what is left over is the
    frontend's, and comes first.

    `quota`: how many cores may be used at once; where that is less than there are, a set is larger
    than its threads. `threads` 0: as many as the replica has cores. One replica has them all and is
    not bound; nor are replicas of which there are more than cores, or threads than the sets hold.
    """
    if replicas == 1:
        return [Share((), threads)]
    if len(cores) - spared(len(cores)) < replicas:  # hardware threads are better than none
        cores = [(number,) for core in cores for number in core]
    usable = min(quota, len(cores))
    each = (len(cores) - spared(len(cores))) // replicas
    if each == 0 or threads > each:
        return [Share((), threads or default_threads(usable, replicas))] * replicas
    threads = threads or min(each, default_threads(usable, replicas))
    first = len(cores) - each * replicas
    sets = [cores[first + each * place :][:each] for place in range(replicas)]
    return [Share(tuple(sorted(n for core in own for n in core)), threads) for own in sets]


def available_cores() -> int:
    """Cores this process may use: its affinity, and the container's quota where there is one."""
    cores = len(_affinity())
    return max(1, min(cores, cgroup.quota_cores() or cores))


def physical_cores(topology: Path = TOPOLOGY) -> list[Core]:
    """Those that this process may use, socket by socket, then in the order of their numbers."""
    cores: dict[tuple[int, str], list[int]] = {}
    for number in sorted(_affinity()):
        about = topology / f"cpu{number}" / "topology"
        try:
            socket = int((about / "physical_package_id").read_text())
            name = (about / "thread_siblings_list").read_text().strip()
        except (OSError, ValueError):  # not told: each number is taken for a core
            socket, name = 0, f"number {number}"
        cores.setdefault((socket, name), []).append(number)
    in_order = sorted((socket, numbers) for (socket, _), numbers in cores.items())
    return [tuple(numbers) for _, numbers in in_order]


def ranges(cores: Sequence[int]) -> str:
    """`0-3,8`, as Linux writes it."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
