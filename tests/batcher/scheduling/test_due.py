"""When a batch is due. No clock: time is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.limits import Limits
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.schedule import NOW, Schedule
from batcher.scheduling.selection import select
from tests.fakes import of_costs, queue, request


def due(pending: Pending, limits: Limits) -> float:
    schedule = Schedule(limits)
    schedule.pending = pending
    return schedule.due(0, 0.0, draining=False)


def test_without_max_wait_a_lone_request_is_due_at_once() -> None:
    assert due(of_costs(1), Limits()) == NOW


def test_an_underfull_batch_is_due_max_wait_after_its_oldest_arrived() -> None:
    pending = queue(request(arrival=2.0), request(arrival=2.75))
    assert due(pending, Limits(max_wait=0.5)) == 2.5


def test_a_full_batch_is_due_at_once() -> None:
    limits = Limits(max_batch_size=3, max_wait=0.5)
    assert due(of_costs(1, 1), limits) == 0.5
    assert due(of_costs(1, 1, 1), limits) == NOW


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
    assert due(of_costs(*waiting), limits) == (NOW if is_due else 0.5)


def test_the_reason_is_tokens_when_they_are_used_up_exactly() -> None:
    limits = Limits(max_batch_tokens=12, max_wait=9.0)
    pending = of_costs(6, 6)
    assert due(pending, limits) == NOW
    assert select(pending, ReplicaModel(limits), 0.0).reason == "tokens"


def test_equal_inputs_are_one_row_when_it_is_asked_whether_there_is_room() -> None:
    limits = Limits(max_batch_tokens=12, max_wait=0.5)
    assert due(queue(request(cost=6, key="a"), request(cost=6, key="a")), limits) == 0.5
    assert due(queue(request(cost=6, key="a"), request(cost=6, key="b")), limits) == NOW


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
    before = len(select(pending, ReplicaModel(limits), 0.0).taken)
    is_due = due(pending, limits) == NOW
    pending.add(request(cost=1))
    after = len(select(pending, ReplicaModel(limits), 0.0).taken)
    assert is_due == (after == before)
