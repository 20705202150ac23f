"""How long a batch is waited for."""

from __future__ import annotations

import pytest

from batcher.scheduling.cost import CostModel
from batcher.supervision.supervision import hang_timeout


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
