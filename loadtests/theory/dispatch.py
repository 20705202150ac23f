"""Several accelerators, each with a queue of its own: what a rule of dispatch could reach. Pure.

An arrival is given to a replica at once and stays there; each replica takes all that waits in its
queue whenever it is free. Seconds and requests a second, as in `yardstick`.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from loadtests.theory.queueing import Accelerator, Vector


class Queue:
    """One replica and what waits for it."""

    def __init__(self, accelerator: Accelerator, finished: Vector) -> None:
        self._accelerator, self._finished = accelerator, finished
        self._waiting: deque[tuple[float, int]] = deque()  # (arrival, place), oldest first.
        self.free = 0.0  # When the batch that runs is over.

    def add(self, at: float, place: int) -> None:
        self._waiting.append((at, place))
        self.advance(at)

    def advance(self, now: float) -> None:
        """Start every batch that is due by `now`."""
        while self._waiting and max(self.free, self._waiting[0][0]) <= now:
            start = max(self.free, self._waiting[0][0])
            count = min(len(self._waiting), self._accelerator.limit)
            self.free = start + self._accelerator.time(count)
            for _ in range(count):
                self._finished[self._waiting.popleft()[1]] = self.free

    def completion(self, now: float) -> float:
        """When one more request would be answered: what runs, the full batches ahead, its own."""
        waiting, limit = len(self._waiting), self._accelerator.limit
        ahead = waiting // limit * self._accelerator.time(limit)
        own = self._accelerator.time(min(limit, waiting + 1))
        return max(0.0, self.free - now) + ahead + own


Rule = Callable[[int, float, Sequence[Queue]], int]


def least_expected_completion(place: int, now: float, queues: Sequence[Queue]) -> int:
    return min(range(len(queues)), key=lambda replica: queues[replica].completion(now))


def round_robin(place: int, now: float, queues: Sequence[Queue]) -> int:
    return place % len(queues)


def dispatched(
    arrivals: Sequence[float], accelerator: Accelerator, replicas: int, rule: Rule
) -> Vector:
    """The latency of each of these arrivals (rising times). O(replicas) for each."""
    finished = np.empty(len(arrivals))
    queues = [Queue(accelerator, finished) for _ in range(replicas)]
    for place, at in enumerate(arrivals):
        for queue in queues:
            queue.advance(at)
        queues[rule(place, at, queues)].add(at, place)
    for queue in queues:
        queue.advance(float("inf"))
    latencies: Vector = finished - np.asarray(arrivals, dtype=np.float64)
    return latencies
