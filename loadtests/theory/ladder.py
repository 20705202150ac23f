"""Which rate to try next. Pure decisions: someone else measures."""

from collections.abc import Callable, Iterator, Sequence

from loadtests.drivers.outcomes import Summary

RUNGS: tuple[float, ...] = (10, 20, 40, 60, 80, 100, 120, 140, 160, 200, 250, 320, 400, 640, 1000)
BROKEN_P95_MS = 2000.0
BROKEN_UNANSWERED = 0.01


def broken(summary: Summary) -> bool:
    """Collapsed: p95 over 2 s, or more than 1 % of the requests without an answer."""
    return summary.p95_ms > BROKEN_P95_MS or 1 - summary.answered_share > BROKEN_UNANSWERED


def climb(first: Sequence[float], holds: Callable[[float], bool]) -> Iterator[float]:
    """The rates to visit: `first`, then every rung from the bottom up to the first that breaks.

    `holds` is asked about a rate after it was yielded. A rate at or above one that broke is not
    visited, except those of `first`: they are what the caller asked for.
    """
    limit = float("inf")
    seen = set()
    for rate in [*first, *RUNGS]:
        if rate in seen or (rate >= limit and rate not in first):
            continue
        seen.add(rate)
        yield rate
        if not holds(rate):
            limit = min(limit, rate)


def bisect(low: float, high: float, probes: int, over: Callable[[float], bool]) -> float:
    """The rate at which `over` turns true, to (high - low) / 2**probes; it must not turn back."""
    for _ in range(probes):
        middle = (low + high) / 2
        if over(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
