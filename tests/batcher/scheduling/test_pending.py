"""The queue: order, removal from anywhere, and the token sum."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.request import FIRST_BULK, Request
from batcher.scheduling.pending import Pending
from tests.batcher.conftest import examples
from tests.fakes import RecordingSink, request


def test_requests_come_out_oldest_first() -> None:
    pending = Pending()
    requests = [request(reply_to=number) for number in range(5)]
    for each in requests:
        pending.add(each)
    assert list(pending) == requests
    assert pending.oldest is requests[0]


def test_one_in_the_middle_can_be_removed() -> None:
    pending = Pending()
    first, second, third = (request(cost=cost) for cost in (1, 20, 300))
    for each in (first, second, third):
        pending.add(each)
    pending.remove(second)
    assert list(pending) == [first, third]
    assert (len(pending), pending.tokens) == (2, 301)


def test_removing_what_is_not_there_is_an_error() -> None:
    pending = Pending()
    pending.add(request(cost=7))
    with pytest.raises(KeyError):
        pending.remove(request(cost=7))
    assert (len(pending), pending.tokens) == (1, 7)


def test_equal_payloads_are_different_requests() -> None:
    pending = Pending()
    pending.add(request(payload="same"))
    pending.add(request(payload="same"))
    assert len(pending) == 2


def test_clear_returns_everything_in_order_and_leaves_nothing() -> None:
    pending = Pending()
    requests = [request(cost=3) for _ in range(4)]
    for each in requests:
        pending.add(each)
    assert pending.clear() == requests
    assert (len(pending), pending.tokens, list(pending)) == (0, 0, [])


def test_tokens_are_the_sum_of_what_waits_after_any_moves() -> None:
    moves = random.Random(7)
    pending, waiting = Pending(), []
    for _ in range(2000):
        if waiting and moves.random() < 0.5:
            pending.remove(waiting.pop(moves.randrange(len(waiting))))
        else:
            waiting.append(request(cost=moves.randrange(1, 500)))
            pending.add(waiting[-1])
        assert pending.tokens == sum(each.cost for each in waiting)
        assert list(pending) == waiting
        assert bool(pending) == bool(waiting)


def test_taking_the_oldest_does_not_walk_over_the_holes_of_those_taken_before() -> None:
    """As a plain dict would: 5,000,000,000 steps."""
    pending, sink = Pending(), RecordingSink()
    for _ in range(100_000):
        pending.add(request(sink))
    started = time.process_time()
    while pending:
        pending.remove(pending.oldest)
    assert time.process_time() - started < 3.5  # it takes 1.2, and with a plain dict 7


# The order of service


def queue(*requests: Request) -> Pending:
    pending = Pending()
    for each in requests:
        pending.add(each)
    return pending


def take(pending: Pending, count: int) -> list[Request]:
    taken = list(pending)[:count]
    pending.take(taken)
    return taken


def callers(requests: list[Request]) -> str:
    return "".join(each.caller or "-" for each in requests)


def test_the_more_urgent_level_comes_first_whoever_came_first() -> None:
    requests = [request(priority=level) for level in (7, 3, 0, 4, 3)]
    assert [each.priority for each in queue(*requests)] == [0, 3, 3, 4, 7]
    assert queue(*requests).oldest is requests[0]
    assert list(queue(*requests).by_age) == requests


def test_callers_of_a_level_take_turns() -> None:
    flood = [request(caller="a") for _ in range(6)]
    pending = queue(*flood, request(caller="b"), request(caller="b"))
    assert callers(list(pending)) == "ababaaaa"


def test_turns_are_by_tokens_and_not_by_requests() -> None:
    long = [request(caller="a", cost=30) for _ in range(4)]
    short = [request(caller="b", cost=10) for _ in range(9)]
    assert callers(list(queue(*long, *short))) == "abbbabbbabbba"


def test_one_caller_alone_is_served_in_order_of_arrival_whatever_the_lengths() -> None:
    requests = [request(caller="a", cost=cost) for cost in (900, 1, 50, 7, 300)]
    assert list(queue(*requests)) == requests


def test_callers_without_a_name_are_one_caller() -> None:
    requests = [request(cost=cost) for cost in (900, 1, 50)]
    assert list(queue(*requests)) == requests


def test_whoever_comes_late_neither_makes_up_for_lost_turns_nor_waits_behind_the_others() -> None:
    pending = queue(*(request(caller="a") for _ in range(100)))
    take(pending, 90)
    for _ in range(5):
        pending.add(request(caller="b"))
    assert callers(list(pending)) == "bababababaaaaaa"


def test_whoever_has_nothing_waiting_has_no_debt() -> None:
    pending = queue(*(request(caller="a", cost=100) for _ in range(5)))
    take(pending, 5)
    pending.add(request(caller="b"))
    pending.add(request(caller="a"))
    assert callers(list(pending)) == "ba"
    pending.add(request(caller="b"))
    assert callers(list(pending)) == "bab"


def test_what_is_put_back_goes_first_in_its_own_order_and_counts_as_oldest() -> None:
    waits = request(priority=0)
    pending = queue(waits)
    first, second, third = request(priority=7), request(priority=2), request()
    pending.put_back([second, third])
    pending.put_back([first])
    assert list(pending) == list(pending.by_age) == [first, second, third, waits]
    assert pending.retries
    take(pending, 3)
    assert not pending.retries


# Equal inputs


def test_equal_requests_are_one_row_in_their_lane() -> None:
    pending = queue(
        request(cost=5, key="x"), request(cost=5, key="x"), request(cost=5, key="x", priority=6)
    )
    assert (len(pending), pending.rows, pending.tokens) == (3, 2, 10)
    assert (pending.bulk, pending.bulk_tokens) == (1, 5)


def test_a_request_is_told_how_many_rows_come_before_it() -> None:
    """The hog's thousand wait behind whoever has nothing waiting, and behind the more urgent."""
    pending = queue(*(request(cost=5, caller="hog") for _ in range(1000)))
    assert pending.place_of(request(cost=5, caller="hog"), 5) == 1000
    assert pending.place_of(request(cost=5, caller="new"), 5) <= 1
    assert pending.place_of(request(cost=5, caller="new", priority=0), 5) == 0
    assert pending.place_of(request(cost=5, caller="new", priority=4), 5) == 1000


def test_an_equal_request_far_behind_does_not_carry_virtual_time_along() -> None:
    hog = [request(cost=1, caller="hog", key=place % 999) for place in range(1000)]
    pending = queue(*hog)
    pending.take(hog[:1], hog[999:])
    assert pending.place_of(request(cost=1, caller="new"), 1) == 0


def test_those_with_the_same_input_are_found_in_order_of_arrival() -> None:
    one, other, two, bulk = (
        request(key="x"),
        request(key="y"),
        request(key="x"),
        request(key="x", priority=5),
    )
    pending = queue(one, other, two, bulk)
    assert pending.equal_to(one) == pending.equal_to(request(key="x")) == [one, two, bulk]
    alone = request()
    assert pending.equal_to(alone) == [alone]


# Against a plain list


kinds = st.tuples(
    st.integers(1, 40),  # tokens
    st.sampled_from([0, 3, 3, 6]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, None, "x", "y"]),
)
moves = st.lists(
    st.one_of(
        kinds,
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("remove"), st.integers(0, 99)),
        st.tuples(st.just("put back"), st.integers(1, 3)),
        st.just("clear"),
    ),
    max_size=60,
)


@examples(300)
@given(moves)
def test_after_any_moves_it_holds_what_a_list_would_and_counts_it_right(
    moves: list[object],
) -> None:
    pending, waiting = Pending(), []  # type: ignore[var-annotated]  # oldest first
    gone: list[Request] = []
    for move in moves:
        match move:
            case "clear":
                assert set(pending.clear()) == set(waiting)
                waiting = []
            case ("take", int(count)):
                taken = take(pending, count)
                gone += taken
                waiting = [each for each in waiting if each not in taken]
            case ("remove", int(place)) if waiting:
                pending.remove(waiting.pop(place % len(waiting)))
            case ("put back", int(count)):
                back, gone = gone[:count], gone[count:]
                pending.put_back(back)
                waiting = [*back, *waiting]
            case (int(cost), int(priority), caller, key):
                cost = 9 if key else cost  # equal inputs are equally long
                waiting.append(request(cost=cost, priority=priority, caller=caller, key=key))
                pending.add(waiting[-1])
        assert_counts(pending, waiting)


def assert_counts(pending: Pending, waiting: list[Request]) -> None:
    assert list(pending.by_age) == waiting
    assert set(pending) == set(waiting)
    assert len(pending) == len(waiting)
    rows = {
        (each.priority >= FIRST_BULK, each.key or id(each)): each.cost for each in reversed(waiting)
    }
    assert pending.rows == len(rows)
    assert pending.tokens == sum(rows.values())
    assert pending.bulk == sum(each.priority >= FIRST_BULK for each in waiting)
    distinct = len({each.key or id(each) for each in waiting})
    assert pending.rows < len(waiting) or all(pending.equal) or distinct == len(waiting)
    for caller in ("a", "b"):
        assert pending.held.get(caller, 0) == sum(each.caller == caller for each in waiting)
    # In order: put back, then by level; one caller's of a level as they came.
    line = list(pending)
    fresh = [each for each in line if each.order_key[0] >= 0]
    assert line[len(line) - len(fresh) :] == fresh
    assert [each.priority for each in fresh] == sorted(each.priority for each in fresh)
    for flow in {(each.priority, each.caller) for each in fresh}:
        own = [each for each in fresh if (each.priority, each.caller) == flow]
        assert own == [each for each in waiting if each in own]
    assert set(pending._flows) == {(each.priority, each.caller) for each in fresh}
