"""Which of the waiting requests a batch takes. No clock: time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from batcher.limits import Limits
from batcher.request import Request
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.selection import Selection, select
from tests.fakes import of_costs, queue, request


def select_from(pending: Pending, limits: Limits, now: float = 0.0) -> Selection:
    return select(pending, ReplicaModel(limits), now)


def costs(requests: Sequence[Request]) -> list[int]:
    return [each.cost for each in requests]


def test_a_batch_takes_all_that_waits() -> None:
    pending = of_costs(3, 1, 2)
    selection = select_from(pending, Limits())
    assert (selection.taken, selection.late, selection.reason) == (list(pending), [], None)
    assert selection.tokens == 9  # three, padded to the longest


def test_a_batch_removes_nothing() -> None:
    pending = of_costs(1, 1)
    select_from(pending, Limits(), now=0.0)
    assert len(pending) == 2


def test_a_batch_stops_at_max_batch_size() -> None:
    selection = select_from(of_costs(1, 2, 3), Limits(max_batch_size=2), now=0.0)
    assert (costs(selection.taken), selection.reason, selection.tokens) == ([1, 2], "full", 4)


def test_a_batch_stops_before_the_padded_tokens_would_be_exceeded() -> None:
    limits = Limits(max_batch_tokens=12)
    selection = select_from(of_costs(4, 4, 5, 1), limits, now=0.0)
    assert (costs(selection.taken), selection.reason, selection.tokens) == ([4, 4], "tokens", 8)


def test_a_batch_counts_padding_and_not_useful_tokens() -> None:
    limits = Limits(max_batch_tokens=12)
    selection = select_from(of_costs(1, 1, 5), limits, now=0.0)
    assert costs(selection.taken) == [1, 1]  # 7 useful tokens, but 15 with padding


def test_an_oversized_request_runs_alone() -> None:
    limits = Limits(max_batch_tokens=12)
    selection = select_from(of_costs(50, 1), limits, now=0.0)
    assert (costs(selection.taken), selection.reason, selection.tokens) == ([50], "tokens", 50)


def test_nobody_overtakes_the_one_that_did_not_fit() -> None:
    limits = Limits(max_batch_tokens=12)
    selection = select_from(of_costs(2, 50, 2), limits, now=0.0)
    assert costs(selection.taken) == [2]


def test_a_request_is_left_out_from_the_instant_of_its_deadline() -> None:
    late, just, fine = (request(deadline=deadline) for deadline in (1.0, 2.0, 2.5))
    selection = select_from(queue(late, just, fine), Limits(), now=2.0)
    assert (selection.taken, selection.late) == ([fine], [late, just])


def test_expired_requests_use_up_neither_size_nor_tokens() -> None:
    gone = [request(cost=100, deadline=1.0) for _ in range(5)]
    live = [request(cost=6) for _ in range(2)]
    limits = Limits(max_batch_size=2, max_batch_tokens=12)
    selection = select_from(queue(*gone, *live), limits, now=2.0)
    assert (selection.taken, selection.late, selection.tokens) == (live, gone, 12)


def test_a_queue_of_nothing_but_expired_requests_gives_an_empty_batch() -> None:
    selection = select_from(queue(request(deadline=1.0)), Limits(), now=1.0)
    assert (selection.taken, selection.tokens, len(selection.late)) == ([], 0, 1)


def test_whoever_is_new_is_not_drawn_into_what_lost_a_worker_wherever_that_stands() -> None:
    new, innocent, suspect = request(), request(), request()
    suspect.workers_lost = 2
    pending = queue(new)
    pending.put_back([innocent, suspect])  # a part that never ran was put back later
    assert select_from(pending, Limits()).taken == [innocent, new]


@given(
    waiting=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=20),
    size=st.integers(1, 6),
    tokens=st.integers(1, 60),
)
def test_a_batch_is_the_longest_prefix_of_live_requests_within_the_limits(
    waiting: list[tuple[int, bool]], size: int, tokens: int
) -> None:
    pending = queue(*(request(cost=cost, deadline=9.0 if live else 0.0) for cost, live in waiting))
    live = [each for each in pending if each.deadline > 1.0]
    selection = select_from(pending, Limits(max_batch_size=size, max_batch_tokens=tokens), now=1.0)

    def fits(count: int) -> bool:
        return count <= 1 or (count <= size and max(costs(live[:count])) * count <= tokens)

    taken = max(count for count in range(len(live) + 1) if fits(count))
    assert selection.taken == live[:taken]
    assert selection.tokens == taken * max(costs(live[:taken]), default=0)
