"""When a batch is due and what goes in it. No clock: time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher import policy
from batcher.limits import Limits
from batcher.pending import Pending
from batcher.request import Request
from tests.fakes import request


def queue(*requests: Request) -> Pending:
    pending = Pending()
    for each in requests:
        pending.add(each)
    return pending


def of_costs(*costs: int) -> Pending:
    return queue(*(request(cost=cost) for cost in costs))


def costs(requests: Sequence[Request]) -> list[int]:
    return [each.cost for each in requests]


# When


def test_without_max_wait_a_lone_request_is_due_at_once() -> None:
    assert policy.due(of_costs(1), Limits(), draining=False) == policy.NOW


def test_an_underfull_batch_is_due_max_wait_after_its_oldest_arrived() -> None:
    pending = queue(request(arrival=2.0), request(arrival=2.75))
    assert policy.due(pending, Limits(max_wait=0.5), draining=False) == 2.5


def test_a_full_batch_is_due_at_once() -> None:
    limits = Limits(max_batch_size=3, max_wait=0.5)
    assert policy.due(of_costs(1, 1), limits, draining=False) == 0.5
    assert policy.due(of_costs(1, 1, 1), limits, draining=False) == policy.NOW


@pytest.mark.parametrize(
    ("waiting", "is_due"),
    [
        ((4, 3), False),  # 2 x 4 padded: one more of up to 4 would fit
        ((5, 4), True),  # 2 x 5 padded: one more would make it 15
        ((6, 6), True),  # 12 exactly
        ((1, 6), True),  # padded to 6 each, though 7 are useful
        ((1, 1, 11), True),  # the third will not fit: what is before it need not wait
        ((12,), True),
        ((99,), True),
    ],
)
def test_a_batch_that_uses_up_the_padded_tokens_is_due_at_once(
    waiting: tuple[int, ...], is_due: bool
) -> None:
    limits = Limits(max_batch_tokens=12, max_wait=0.5)
    assert policy.due(of_costs(*waiting), limits, draining=False) == (policy.NOW if is_due else 0.5)


def test_draining_waits_for_nobody() -> None:
    assert policy.due(of_costs(1), Limits(max_wait=0.5), draining=True) == policy.NOW


# What


def test_fill_takes_all_that_waits() -> None:
    pending = of_costs(3, 1, 2)
    fill = policy.fill(pending, Limits(), now=0.0, draining=False)
    assert (fill.taken, fill.expired, fill.reason) == (list(pending), [], "idle")
    assert fill.tokens == 9  # three, padded to the longest


def test_fill_removes_nothing() -> None:
    pending = of_costs(1, 1)
    policy.fill(pending, Limits(), now=0.0, draining=False)
    assert len(pending) == 2


def test_fill_stops_at_max_batch_size() -> None:
    fill = policy.fill(of_costs(1, 2, 3), Limits(max_batch_size=2), now=0.0, draining=False)
    assert (costs(fill.taken), fill.reason, fill.tokens) == ([1, 2], "full", 4)


def test_fill_stops_before_the_padded_tokens_would_be_exceeded() -> None:
    limits = Limits(max_batch_tokens=12)
    fill = policy.fill(of_costs(4, 4, 5, 1), limits, now=0.0, draining=False)
    assert (costs(fill.taken), fill.reason, fill.tokens) == ([4, 4], "tokens", 8)


def test_fill_counts_padding_and_not_useful_tokens() -> None:
    limits = Limits(max_batch_tokens=12)
    fill = policy.fill(of_costs(1, 1, 5), limits, now=0.0, draining=False)
    assert costs(fill.taken) == [1, 1]  # 7 useful tokens, but 15 with padding


def test_an_oversized_request_runs_alone() -> None:
    limits = Limits(max_batch_tokens=12)
    fill = policy.fill(of_costs(50, 1), limits, now=0.0, draining=False)
    assert (costs(fill.taken), fill.reason, fill.tokens) == ([50], "tokens", 50)


def test_nobody_overtakes_the_one_that_did_not_fit() -> None:
    limits = Limits(max_batch_tokens=12)
    fill = policy.fill(of_costs(2, 50, 2), limits, now=0.0, draining=False)
    assert costs(fill.taken) == [2]


def test_the_reason_is_tokens_when_they_are_used_up_exactly() -> None:
    limits = Limits(max_batch_tokens=12, max_wait=9.0)
    pending = of_costs(6, 6)
    assert policy.due(pending, limits, draining=False) == policy.NOW
    assert policy.fill(pending, limits, now=0.0, draining=False).reason == "tokens"


@pytest.mark.parametrize(
    ("max_wait", "draining", "reason"),
    [(0.0, False, "idle"), (0.5, False, "max_wait"), (0.0, True, "drain"), (0.5, True, "drain")],
)
def test_an_underfull_batch_says_why_it_closed(
    max_wait: float, draining: bool, reason: str
) -> None:
    limits = Limits(max_wait=max_wait)
    assert policy.fill(of_costs(1), limits, now=1.0, draining=draining).reason == reason


def test_a_request_is_left_out_from_the_instant_of_its_deadline() -> None:
    late, just, fine = (request(deadline=deadline) for deadline in (1.0, 2.0, 2.5))
    fill = policy.fill(queue(late, just, fine), Limits(), now=2.0, draining=False)
    assert (fill.taken, fill.expired) == ([fine], [late, just])


def test_expired_requests_use_up_neither_size_nor_tokens() -> None:
    gone = [request(cost=100, deadline=1.0) for _ in range(5)]
    live = [request(cost=6) for _ in range(2)]
    limits = Limits(max_batch_size=2, max_batch_tokens=12)
    fill = policy.fill(queue(*gone, *live), limits, now=2.0, draining=False)
    assert (fill.taken, fill.expired, fill.tokens) == (live, gone, 12)


def test_a_queue_of_nothing_but_expired_requests_gives_an_empty_batch() -> None:
    fill = policy.fill(queue(request(deadline=1.0)), Limits(), now=1.0, draining=False)
    assert (fill.taken, fill.tokens, len(fill.expired)) == ([], 0, 1)


@given(
    waiting=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=20),
    size=st.integers(1, 6),
    tokens=st.integers(1, 60),
)
def test_fill_is_the_longest_prefix_of_live_requests_within_the_limits(
    waiting: list[tuple[int, bool]], size: int, tokens: int
) -> None:
    pending = queue(*(request(cost=cost, deadline=9.0 if live else 0.0) for cost, live in waiting))
    live = [each for each in pending if each.deadline > 1.0]
    fill = policy.fill(
        pending, Limits(max_batch_size=size, max_batch_tokens=tokens), now=1.0, draining=False
    )

    def fits(count: int) -> bool:
        return count <= 1 or (count <= size and max(costs(live[:count])) * count <= tokens)

    taken = max(count for count in range(len(live) + 1) if fits(count))
    assert fill.taken == live[:taken]
    assert fill.tokens == taken * max(costs(live[:taken]), default=0)
    left = [each for each in pending if each not in fill.taken and each not in fill.expired]
    assert all(each in live for each in left[:1])  # the next batch begins with a live one


@given(
    waiting=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    size=st.integers(1, 6),
    tokens=st.integers(1, 60),
)
def test_a_batch_closes_early_exactly_when_no_arrival_could_join_it(
    waiting: list[int], size: int, tokens: int
) -> None:
    limits = Limits(max_batch_size=size, max_batch_tokens=tokens, max_wait=1.0)
    pending = of_costs(*waiting)
    before = len(policy.fill(pending, limits, now=0.0, draining=False).taken)
    due = policy.due(pending, limits, draining=False)
    pending.add(request(cost=1))
    after = len(policy.fill(pending, limits, now=0.0, draining=False).taken)
    assert (due == policy.NOW) == (after == before)
