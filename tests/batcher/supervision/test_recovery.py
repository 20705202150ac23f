"""The decision table, row by row."""

from __future__ import annotations

import pytest

from batcher.errors import BatcherError, OutOfMemory, RunnerFailed, WorkerLost
from batcher.supervision.recovery import Step, next_step


@pytest.mark.parametrize(
    ("error", "size", "closing", "step"),
    [
        (RunnerFailed("bad"), 1, False, Step.FAIL),
        (RunnerFailed("bad"), 2, False, Step.HALVE),
        (RunnerFailed("bad"), 64, True, Step.HALVE),
        (OutOfMemory("full"), 1, False, Step.FAIL),
        (OutOfMemory("full"), 2, False, Step.HALVE),
        (WorkerLost("signal 9"), 1, False, Step.REQUEUE),
        (WorkerLost("hang"), 64, False, Step.REQUEUE),
        (WorkerLost("signal 9"), 64, True, Step.FAIL),
    ],
)
def test_what_becomes_of_a_failed_batch(
    error: BatcherError, size: int, closing: bool, step: Step
) -> None:
    assert next_step(error, size, closing) is step
