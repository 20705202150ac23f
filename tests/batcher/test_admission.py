"""The one bound on the queue, and how long it will take to empty."""

from __future__ import annotations

import pytest

from batcher import admission
from batcher.cost import CostModel
from batcher.limits import Limits
from batcher.pending import Pending
from tests.fakes import request

FIXED, PER_REQUEST, PER_TOKEN = 0.005, 0.0005, 0.00001


@pytest.fixture(scope="module")
def cost() -> CostModel:
    """Knows batches that take 5 ms + 0.5 ms a request + 10 us a token."""
    model = CostModel()
    for turn in range(300):
        size = 1 + turn % 32
        tokens = size * (8 + turn % 7)
        model.observe(size, tokens, FIXED + PER_REQUEST * size + PER_TOKEN * tokens)
    return model


def waiting(count: int, cost: int = 10) -> Pending:
    pending = Pending()
    for _ in range(count):
        pending.add(request(cost=cost))
    return pending


def test_the_last_free_place_is_given_and_the_next_request_refused(cost: CostModel) -> None:
    limits = Limits(max_queue_size=4)
    assert admission.refusal(waiting(3), 1, limits, cost, 1) is None
    refused = admission.refusal(waiting(4), 1, limits, cost, 1)
    assert refused is not None
    assert str(refused) == "4 requests wait and at most 4 may"


def test_several_requests_enter_together_or_not_at_all(cost: CostModel) -> None:
    limits = Limits(max_queue_size=4)
    assert admission.refusal(waiting(2), 2, limits, cost, 1) is None
    assert admission.refusal(waiting(2), 3, limits, cost, 1) is not None


def test_a_refused_caller_is_told_when_the_queue_will_have_emptied(cost: CostModel) -> None:
    # 64 wait, in two batches of 32 requests of 10 tokens: 2 x (5 + 16 + 3.2) ms
    limits = Limits(max_batch_size=32, max_queue_size=64)
    refused = admission.refusal(waiting(64), 1, limits, cost, 1)
    assert refused is not None
    assert refused.retry_after == pytest.approx(2 * 0.0242, rel=1e-3)


def test_a_batch_that_is_not_full_counts_as_one(cost: CostModel) -> None:
    limits = Limits(max_batch_size=32)
    one = admission.seconds_to_drain(waiting(32), limits, cost, 1)
    assert admission.seconds_to_drain(waiting(33), limits, cost, 1) == pytest.approx(2 * one)


def test_replicas_share_the_work(cost: CostModel) -> None:
    limits = Limits(max_batch_size=8)
    alone = admission.seconds_to_drain(waiting(64), limits, cost, 1)
    assert admission.seconds_to_drain(waiting(64), limits, cost, 4) == pytest.approx(alone / 4)


def test_long_requests_make_smaller_batches(cost: CostModel) -> None:
    # 400 tokens of 100 each: four at a time, so 16 in four batches of 5 + 2 + 4 ms
    limits = Limits(max_batch_size=32, max_batch_tokens=400)
    seconds = admission.seconds_to_drain(waiting(16, cost=100), limits, cost, 1)
    assert seconds == pytest.approx(4 * 0.011, rel=1e-2)


def test_requests_above_the_token_budget_are_counted_one_at_a_time(cost: CostModel) -> None:
    limits = Limits(max_batch_tokens=50)
    seconds = admission.seconds_to_drain(waiting(3, cost=200), limits, cost, 1)
    assert seconds == pytest.approx(3 * cost.predict(1, 200))


def test_an_empty_queue_takes_no_time(cost: CostModel) -> None:
    assert admission.seconds_to_drain(waiting(0), Limits(), cost, 1) == 0.0


def test_before_the_first_batch_nothing_is_predicted_and_nothing_breaks() -> None:
    assert admission.seconds_to_drain(waiting(9), Limits(), CostModel(), 0) == 0.0


def held(count: int, caller: str | None) -> Pending:
    pending = Pending()
    for _ in range(count):
        pending.add(request(caller=caller))
    return pending


def test_a_caller_alone_leaves_a_ninth_of_the_queue_to_whoever_comes(cost: CostModel) -> None:
    limits = Limits(max_queue_size=90)
    assert admission.refusal(held(79, "hog"), 1, limits, cost, 1, "hog") is None
    refused = admission.refusal(held(80, "hog"), 1, limits, cost, 1, "hog")
    assert refused is not None
    assert "80 requests of yours wait" in str(refused)
    assert admission.refusal(held(80, "hog"), 10, limits, cost, 1, "new") is None


def test_callers_without_a_name_share_with_nobody(cost: CostModel) -> None:
    limits = Limits(max_queue_size=90)
    assert admission.refusal(held(89, None), 1, limits, cost, 1) is None


def test_several_greedy_callers_end_with_about_the_same_share(cost: CostModel) -> None:
    limits, pending = Limits(max_queue_size=900), Pending()
    callers = ("a", "b", "c")
    while any(admission.refusal(pending, 1, limits, cost, 1, each) is None for each in callers):
        for each in callers:
            if admission.refusal(pending, 1, limits, cost, 1, each) is None:
                pending.add(request(caller=each))
    shares = [pending.held_by(each) for each in callers]
    assert sum(shares) == pytest.approx(900 * 24 / 25, abs=3)
    assert max(shares) - min(shares) <= 1


def test_one_large_request_of_a_caller_who_holds_nothing_needs_only_the_room(
    cost: CostModel,
) -> None:
    limits = Limits(max_queue_size=4)
    assert admission.refusal(Pending(), 4, limits, cost, 1, "anyone") is None
