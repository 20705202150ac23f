"""The decision table, row by row; and how long a batch is waited for."""

from __future__ import annotations

import pytest

from batcher.errors import BatcherError, OutOfMemory, RunnerFailed, WorkerLost
from batcher.request import is_poison, runs_alone
from batcher.scheduling.cost import CostModel
from batcher.supervision import recovery
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


def test_the_first_lost_worker_is_nobodys_fault_the_second_isolates_the_third_condemns() -> None:
    assert [runs_alone(losses) for losses in range(4)] == [False, False, True, True]
    assert [is_poison(losses) for losses in range(4)] == [False, False, False, True]


def cost(*batches: tuple[int, int, float]) -> CostModel:
    model = CostModel()
    for batch in batches:
        model.observe(*batch)
    return model


def test_a_batch_that_nobody_can_predict_is_waited_for_for_long() -> None:
    assert recovery.hang_timeout(CostModel(), 1, 10, minimum=5.0) == 300.0
    assert recovery.hang_timeout(CostModel(), 1, 10, minimum=400.0) == 400.0


def test_a_known_batch_has_ten_times_its_time_and_never_less_than_the_floor() -> None:
    known = cost(*[(1, 10, 2.0)] * 20)
    assert recovery.hang_timeout(known, 1, 10, minimum=5.0) == pytest.approx(20.0, rel=0.01)
    assert recovery.hang_timeout(known, 1, 10, minimum=50.0) == 50.0


def test_a_batch_larger_than_any_before_has_as_long_as_its_tokens_may_need() -> None:
    """Small ones teach what a batch costs, not what a token does: a first large one must not be
    killed for taking its time."""
    small = cost(*[(1, 10, 0.2)] * 20)
    assert small.predict(64, 16_384) < 20.0
    assert recovery.hang_timeout(small, 64, 16_384, minimum=5.0) >= 2 * 0.2 * 16_384 / 10


def test_a_batch_of_more_requests_has_as_long_as_those_may_need() -> None:
    """However few its tokens: some models take their time by the request."""
    long_ones = cost(*[(1, 4_096, 0.6)] * 20)
    assert recovery.hang_timeout(long_ones, 32, 2_048, minimum=5.0) >= 2 * 0.6 * 32
