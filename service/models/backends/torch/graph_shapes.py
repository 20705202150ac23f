"""Which (size, length) a graph is captured for, and which of them a batch runs in. Pure.

A graph is of one shape; a smaller batch is padded to it. Sizes and lengths rise in steps of at most
STEP, so that no batch is padded to more than STEP x STEP of its own rectangle (of texts no shorter
than SHORTEST); one that is wider than every shape runs without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

STEP = 1.5
SHORTEST = 8  # tokens; where launching a kernel takes longer than running it, fewer are no faster
MOST_TOKENS = 16_384


class Shape(NamedTuple):
    size: int
    length: int

    @property
    def tokens(self) -> int:
        return self.size * self.length

    def holds(self, size: int, length: int) -> bool:
        return size <= self.size and length <= self.length


def steps(first: int, last: int) -> list[int]:
    """first to last; each is at most STEP times the one before, or one more than it."""
    values = [first]
    while values[-1] < last:
        values.append(min(last, max(values[-1] + 1, _round(values[-1] * STEP))))
    return values


def _round(value: float) -> int:
    """Down, to a multiple of 8 where that is small against it: what tensor cores take whole."""
    return int(value) // 8 * 8 if value >= 64 else int(value)


def shapes(most_inputs: int, longest: int, most_tokens: int = MOST_TOKENS) -> list[Shape]:
    """By tokens, the smallest first: what there is no time to capture is what gains least."""
    lengths = steps(min(SHORTEST, longest), longest)
    every = [Shape(size, length) for size in steps(1, most_inputs) for length in lengths]
    return sorted((one for one in every if one.tokens <= most_tokens), key=lambda s: (s.tokens, s))


def fit(captured: Iterable[Shape], size: int, length: int) -> Shape | None:
    """The shape of least tokens that such a batch fits into. O(shapes): once per batch."""
    holding = (shape for shape in captured if shape.holds(size, length))
    return min(holding, key=lambda shape: (shape.tokens, shape), default=None)


def smallest_in(shape: Shape, every: Iterable[Shape]) -> Shape:
    """The smallest batch that runs in this shape and in none that is narrower or shorter."""
    known = list(every)
    size = max((s.size for s in known if s.size < shape.size), default=0) + 1
    length = max((s.length for s in known if s.length < shape.length), default=0) + 1
    return Shape(size, length)


Graph = TypeVar("Graph")


def capture_all(
    wanted: list[Shape],
    capture: Callable[[Shape], tuple[Graph, float]],
    plain: Callable[[Shape], float],
    is_enough: Callable[[], bool],
) -> Iterator[tuple[Shape, Graph]]:
    """The shapes that pay, each with its graph.

    `capture` gives the graph and the seconds of its run, `plain` the seconds of a batch without
    one. A graph pays if it takes no longer than the smallest batch that would run in it takes
    without; where one does not, none that is both as wide and as long is tried.
    """
    lost = list[Shape]()
    for shape in wanted:
        if is_enough():
            return
        if any(shape.holds(*small) for small in lost):
            continue
        graph, seconds = capture(shape)
        if seconds <= plain(smallest_in(shape, wanted)):
            yield shape, graph
        else:
            lost.append(shape)
