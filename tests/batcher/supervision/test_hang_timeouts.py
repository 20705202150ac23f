"""How long a batch is waited for."""

from __future__ import annotations

import pytest

from batcher.limits import Limits
from batcher.scheduling.cost import CostModel
from batcher.scheduling.selection import Selection
from batcher.supervision.supervision import HangTimeouts, hang_timeout
from tests.fakes import request


def timeout(model: CostModel, size: int, tokens: int, minimum: float) -> float:
    return hang_timeout(model, size, tokens, model.predict(size, tokens), minimum)


def cost(*batches: tuple[int, int, float]) -> CostModel:
    model = CostModel()
    for batch in batches:
        model.observe(*batch)
    return model


def test_a_batch_that_nobody_can_predict_is_waited_for_for_long() -> None:
    assert timeout(CostModel(), 1, 10, minimum=5.0) == 300.0
    assert timeout(CostModel(), 1, 10, minimum=400.0) == 400.0


def test_a_known_batch_has_ten_times_its_time_and_never_less_than_the_floor() -> None:
    known = cost(*[(1, 10, 2.0)] * 20)
    assert timeout(known, 1, 10, minimum=5.0) == pytest.approx(20.0, rel=0.01)
    assert timeout(known, 1, 10, minimum=50.0) == 50.0


def test_a_batch_larger_than_any_before_has_as_long_as_its_tokens_may_need() -> None:
    """Small ones teach what a batch costs, not what a token does: a first large one must not be
    killed for taking its time."""
    small = cost(*[(1, 10, 0.2)] * 20)
    assert small.predict(64, 16_384) < 20.0
    assert timeout(small, 64, 16_384, minimum=5.0) >= 2 * 0.2 * 16_384 / 10


def test_a_batch_of_more_requests_has_as_long_as_those_may_need() -> None:
    """However few its tokens: some models take their time by the request."""
    long_ones = cost(*[(1, 4_096, 0.6)] * 20)
    assert timeout(long_ones, 32, 2_048, minimum=5.0) >= 2 * 0.6 * 32


QUICK = [(size, size, 0.01) for size in (1, 2, 4)] * 20


def bound(*deadlines: float, by_deadline: bool = True, workers_lost: int = 0) -> float:
    """Of a batch cut at 100 s, whose model has been quick so far."""
    timeouts = HangTimeouts(Limits(hang_by_deadline=by_deadline))
    taken = [request(deadline=deadline) for deadline in deadlines]
    for each in taken:
        each.workers_lost = workers_lost
    selection = Selection(taken, tokens=len(taken), predicted=0.01)
    return timeouts.of(selection, cost(*QUICK), 100.0)


def test_code_of_the_users_own_has_as_long_as_its_caller() -> None:
    assert bound(130.0) == 30.0
    assert bound(130.0, by_deadline=False) == 5.0
    assert bound(101.0) == 5.0  # never less than the floor


def test_rows_that_run_together_leave_half_of_the_time_to_run_again() -> None:
    assert bound(110.0, 130.0) == 15.0
    assert bound(130.0, workers_lost=1) == 15.0  # as do those that may have to be told apart


def test_a_caller_who_shares_a_row_counts_too() -> None:
    shared = Selection([request(deadline=110.0)], {0: [request(deadline=150.0)]}, tokens=1)
    assert HangTimeouts(Limits(hang_by_deadline=True)).of(shared, cost(*QUICK), 100.0) == 50.0


def test_a_test_input_has_no_deadline() -> None:
    assert bound() == 5.0
