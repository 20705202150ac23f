"""The warm-up grid: how long batches of a few sizes and lengths take. Knows no model and no clock.

The smallest batches come first, so what time does not suffice for is what takes longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.cache.profiles import Point

SIZES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (8, 32, 128, 512)
MOST_TOKENS = 32_768  # of a batch; twice what one has unless the user asks for more
BUDGET = 5.0  # seconds for all of it
_LONGEST = 0.2  # of the budget that is left, for one run
_REPEATS, _SLOW_REPEATS = 3, 2  # at most; the first run of a size may do what no later one does
_SLOW = 0.02  # of the budget: what takes longer is repeated less


def grid(max_length: int, lengths: Sequence[int] = ()) -> list[tuple[int, int]]:
    """(size, length), by padded tokens. `lengths`: other ones than LENGTHS."""
    lengths = sorted({min(length, max_length) for length in lengths or LENGTHS})
    points = [(size, length) for size in SIZES for length in lengths]
    within = [(n, length) for n, length in points if n * length <= MOST_TOKENS]
    return sorted(within, key=lambda point: (point[0] * point[1], point[0]))


def measure(
    run: Callable[[int, int], float],
    max_length: int,
    say: Callable[[str], None],
    budget: float = BUDGET,
    lengths: Sequence[int] = (),
) -> list[Point]:
    """`run(size, length)` runs such a batch and returns its seconds, or raises MemoryError: then
    nothing larger is tried. What would take too long, by what the last point took, is left out. A
    point is the least of its runs: other work on the machine only ever makes one slower.
    """
    left, points = budget, list[Point]()
    for size, length in grid(max_length, lengths):
        tokens = size * length
        if points and points[-1][2] * tokens / points[-1][1] > left * _LONGEST:
            say(f"profile: batches of {tokens} tokens and more would take too long to measure")
            break
        times: list[float] = []
        try:
            while not times or _again(times, left, budget):
                times.append(run(size, length))
        except MemoryError as error:
            say(f"profile: stops at {size} x {length} tokens, which do not fit ({error})")
            break
        left -= sum(times)
        points.append((size, tokens, min(times)))
    if points:
        size, tokens, seconds = points[-1]
        say(
            f"profile: {len(points)} points in {budget - left:.1f} s, the largest {size} inputs of"
            f" {tokens // size} tokens in {seconds * 1e3:.1f} ms"
        )
    return points


def _again(times: list[float], left: float, budget: float) -> bool:
    """One run more, if all of them together still take no more than was foreseen for two."""
    most = _REPEATS if min(times) <= budget * _SLOW else _SLOW_REPEATS
    return len(times) < most and sum(times) + min(times) <= left * _LONGEST * _SLOW_REPEATS
