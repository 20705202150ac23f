"""On which cores processes and threads run."""

import contextlib
import os
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def pinned(cpus: frozenset[int] | None) -> Iterator[None]:
    """This process, and what it starts meanwhile, on those cores."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin_threads(tids: Sequence[int], cpus: frozenset[int]) -> None:
    """Move running threads (of any process) to those cores."""
    for tid in tids:
        with contextlib.suppress(ProcessLookupError):  # It ended; nothing to move.
            os.sched_setaffinity(tid, cpus)
