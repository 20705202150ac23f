"""How many CPU processes preprocess and postprocess, and on which cores. Decisions only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from service.placement.replica_count import Placement

MOST = 8  # that auto starts: each imports the user's module, and what that imports


def cpu_workers(asked: int | Literal["auto"], cores: int) -> int:
    """auto: one for each core but one, which is the event loop's and the batching threads'."""
    return min(MOST, max(1, cores - 1)) if asked == "auto" else asked


def cores_beside(placements: Iterable[Placement], available: Iterable[int]) -> tuple[int, ...]:
    """Those that no device worker is bound to. Empty: any, as where none is bound, or all are."""
    taken = {core for placement in placements for core in placement.cores}
    return tuple(sorted(set(available) - taken)) if taken else ()
