"""What a simulation of the service's own schedule shows (batcher/scheduling/simulate.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batcher.scheduling.simulate import Arrival, SimulatedBatch


def latencies(arrivals: Sequence[Arrival], batches: Iterable[SimulatedBatch]) -> list[float]:
    """Arrival to finish, in seconds, in the order of the batches."""
    return [batch.finish - arrivals[place].at for batch in batches for place in batch.members]
