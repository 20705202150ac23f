"""The one place that refuses for lack of room or of time, and how long the queue takes to empty."""

from __future__ import annotations

import pytest

from batcher.errors import BatcherError, CallTooLarge, NeverInTime, Overloaded
from batcher.limits import Limits
from batcher.scheduling import admission
from batcher.scheduling.arrivals import Arrivals
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel
from tests.fakes import request

FIXED, PER_REQUEST, PER_TOKEN = 0.005, 0.0005, 0.00001


def seconds_of(size: int, tokens: int) -> float:
    return FIXED + PER_REQUEST * size + PER_TOKEN * tokens


def device(
    limits: Limits | None = None, usual: float = 10.0, came_up: float = 0.0, slower: float = 1.0
) -> ReplicaModel:
    """Knows that batches take 5 ms + 0.5 ms a request + 10 us a token, and requests of that length
    to be the usual ones."""
    known = ReplicaModel(limits or Limits())
    known.came_up(
        [(n, n * long, slower * seconds_of(n, n * long)) for n in (1, 8, 32) for long in (4, 64)],
        now=came_up,
    )
    known.set_pace(usual)
    return known


def waiting(count: int, cost: int = 10, priority: int = 3, caller: str | None = None) -> Pending:
    pending = Pending()
    for _ in range(count):
        pending.add(request(cost=cost, priority=priority, caller=caller))
    return pending


def ask(
    pending: Pending,
    limits: Limits,
    count: int = 1,
    *,
    caller: str | None = None,
    cost: int = 10,
    priority: int = 3,
    deadline: float = float("inf"),
    devices: list[ReplicaModel] | None = None,
    overhead: float = 0.0,
    rate: float = 0.0,
    key: str | None = None,  # of all of them
    now: float = 0.0,
) -> BatcherError | None:
    requests = [
        request(cost=cost, caller=caller, priority=priority, deadline=deadline, key=key)
        for _ in range(count)
    ]
    known = [device(limits)] if devices is None else devices
    up = [each for each in known if each.is_up]
    return admission.refusal(
        pending, requests, limits, known, up, now, overhead, Arrivals(interactive=rate)
    )


# Room


def test_the_last_free_place_is_given_and_the_next_request_refused() -> None:
    limits = Limits(max_queue_size=4)
    assert ask(waiting(3), limits) is None
    refused = ask(waiting(4), limits)
    assert str(refused) == "4 requests wait and at most 4 may"


def test_several_requests_enter_together_or_not_at_all() -> None:
    limits = Limits(max_queue_size=4)
    assert ask(waiting(2), limits, 2) is None
    assert ask(waiting(2), limits, 3) is not None


def test_tokens_are_bounded_too() -> None:
    limits = Limits(max_queue_tokens=100)
    assert ask(waiting(9), limits, 1, cost=10) is None
    refused = ask(waiting(9), limits, 1, cost=11)
    assert str(refused) == "90 tokens wait and at most 100 may"


def test_more_tokens_than_may_wait_can_still_come_alone() -> None:
    limits = Limits(max_queue_tokens=100)
    assert ask(Pending(), limits, 1, cost=1000) is None
    assert ask(waiting(1), limits, 1, cost=1000) is not None


def test_a_refused_caller_is_told_when_the_queue_will_have_emptied() -> None:
    # 64 wait, in two batches of 32 requests of 10 tokens: 2 x (5 + 16 + 3.2) ms
    refused = ask(waiting(64), Limits(max_batch_size=32, max_queue_size=64))
    assert refused is not None
    assert refused.retry_after == pytest.approx(2 * 0.0242, rel=1e-3)


# How long it takes


def seconds(
    rows: int,
    limits: Limits | None = None,
    *,
    replicas: int = 1,
    rate: float = 0.0,
    usual: float = 10.0,
) -> float:
    devices = [device(limits, usual) for _ in range(replicas)]
    return admission.seconds_until(rows, devices, 0.0, Arrivals(interactive=rate))


def test_a_last_batch_that_is_not_full_takes_as_long_as_its_own_size() -> None:
    limits = Limits(max_batch_size=32)
    one = seconds(32, limits)
    assert one == pytest.approx(seconds_of(32, 320), rel=1e-3)
    assert seconds(33, limits) == pytest.approx(one + seconds_of(1, 10), rel=1e-3)


def test_replicas_share_the_work() -> None:
    limits = Limits(max_batch_size=8)
    alone = seconds(64, limits)
    assert seconds(64, limits, replicas=4) == pytest.approx(alone / 4)


def test_a_round_that_does_not_need_every_replica_takes_as_long_as_one_that_does() -> None:
    limits = Limits(max_batch_size=8)
    one = seconds(8, limits)
    assert seconds(24, limits, replicas=2) == pytest.approx(2 * one)


def test_long_requests_make_smaller_batches() -> None:
    # 400 tokens of 100 each: four at a time, so 16 in four batches of 5 + 2 + 4 ms
    limits = Limits(max_batch_size=32, max_batch_tokens=400)
    assert seconds(16, limits, usual=100) == pytest.approx(4 * 0.011, rel=1e-2)


def test_requests_above_the_token_budget_are_counted_one_at_a_time() -> None:
    limits = Limits(max_batch_tokens=50)
    assert seconds(3, limits, usual=200) == pytest.approx(3 * seconds_of(1, 200), rel=1e-3)


def test_the_padding_that_recent_batches_had_is_expected_of_the_next() -> None:
    padded = device()
    padded.padding = 2.0
    padded.set_pace(10.0)
    expected = seconds_of(8, 160)
    assert admission.seconds_until(8, [padded], 0.0) == pytest.approx(expected, rel=1e-3)


def test_what_runs_now_comes_first() -> None:
    busy = device()
    busy.began(1.0, predicted=0.5)
    alone = seconds(4)
    assert admission.seconds_until(4, [busy], 1.2) == pytest.approx(0.3 + alone)
    assert admission.seconds_until(4, [busy], 9.0) == pytest.approx(alone)  # overdue
    assert admission.seconds_until(4, [busy, device()], 1.2) == pytest.approx(alone)


def test_whoever_comes_before_the_last_batch_is_cut_will_be_in_it() -> None:
    limits = Limits(max_batch_size=32)
    first = seconds(32, limits)
    assert seconds(33, limits, rate=10 / first) == pytest.approx(first + seconds_of(11, 110))
    assert seconds(33, limits, rate=1e6) == pytest.approx(2 * first)  # and no more than fit


def test_an_empty_queue_takes_no_time() -> None:
    assert seconds(0) == 0.0


def test_before_the_first_batch_nothing_is_predicted_and_nothing_breaks() -> None:
    assert admission.seconds_until(9, [ReplicaModel(Limits())], 0.0) == 0.0
    assert admission.seconds_until(9, [], 0.0) == 0.0


# Time


def test_who_would_be_done_after_the_deadline_is_refused_and_told_by_how_much() -> None:
    # Two full batches of 24.2 ms wait, and the newcomer is a third of 5.6 ms: 54 ms in all.
    limits = Limits(max_batch_size=32)
    assert ask(waiting(64), limits, deadline=0.055) is None
    refused = ask(waiting(64), limits, deadline=0.044)
    assert refused is not None
    assert str(refused) == "it is predicted to take 0.05 s, 0.01 s too long"
    assert refused.retry_after == pytest.approx(0.054, rel=1e-2)


def test_the_hand_over_counts_against_the_deadline() -> None:
    limits = Limits(max_batch_size=32)
    assert ask(waiting(64), limits, deadline=0.055, overhead=0.002) is not None


def test_so_does_a_text_longer_than_the_usual() -> None:
    limits = Limits(max_batch_size=32)
    assert ask(waiting(64), limits, deadline=0.055, cost=400) is not None


def test_so_does_what_batches_take_beyond_the_prediction_one_time_in_twenty() -> None:
    limits = Limits(max_batch_size=32)
    known = device(limits)
    known.cost.margin = 0.1
    known.set_pace(10.0)
    assert ask(waiting(64), limits, deadline=0.0545) is None
    assert ask(waiting(64), limits, deadline=0.0545, devices=[known]) is not None


def test_so_do_those_who_will_have_come_by_then() -> None:
    limits = Limits(max_batch_size=32)
    assert ask(waiting(64), limits, deadline=0.055, rate=200.0) is not None


def test_all_of_a_call_must_be_in_time_or_none_enters() -> None:
    limits = Limits(max_batch_size=32)
    assert ask(waiting(32), limits, 1, deadline=0.035) is None
    assert ask(waiting(32), limits, 32, deadline=0.035) is not None


def test_more_urgent_work_does_not_queue_behind_the_less_urgent() -> None:
    limits = Limits(max_batch_size=32)
    flood = waiting(640, priority=6)
    assert ask(flood, limits, deadline=0.01, priority=0) is None
    assert ask(flood, limits, deadline=0.01, priority=4) is None
    assert ask(flood, limits, deadline=0.01, priority=6) is not None


def test_an_engine_that_has_run_nothing_for_a_second_takes_whatever_comes() -> None:
    """It would be late as far as anybody knows, but only a run can show that to be wrong."""
    idle, busy = device(), device()
    busy.began(0.0, predicted=1.0)
    assert ask(Pending(), Limits(), deadline=0.001, devices=[idle]) is None
    assert ask(Pending(), Limits(), deadline=0.001, devices=[busy, idle]) is None
    assert ask(Pending(), Limits(), deadline=0.001, devices=[busy]) is not None
    idle.began(-1.0, predicted=0.1)
    idle.ended(-0.9, 10, 10, 0.1)
    assert ask(Pending(), Limits(), deadline=0.001, devices=[idle]) is not None


def test_without_a_deadline_only_room_counts() -> None:
    assert ask(waiting(4000), Limits()) is None


def test_until_a_device_is_up_nobody_is_refused_for_time() -> None:
    assert ask(waiting(64), Limits(), deadline=0.001, devices=[]) is None


def test_bulk_takes_half_of_the_queue_at_most() -> None:
    limits = Limits(max_queue_size=8)
    assert ask(waiting(3, priority=6), limits, priority=6) is None
    refused = ask(waiting(4, priority=6), limits, priority=6)
    assert "4 requests of low priority wait" in str(refused)
    assert ask(waiting(4, priority=6), limits, 4, priority=3) is None
    assert ask(Pending(), limits, 8, priority=6) is None  # a call of its own size can always come


# Fair shares


def test_a_caller_alone_leaves_a_ninth_of_the_queue_to_whoever_comes() -> None:
    limits = Limits(max_queue_size=90)
    assert ask(waiting(79, caller="hog"), limits, caller="hog") is None
    refused = ask(waiting(80, caller="hog"), limits, caller="hog")
    assert "80 requests of yours wait" in str(refused)
    assert ask(waiting(80, caller="hog"), limits, 10, caller="new") is None


def test_callers_without_a_name_share_with_nobody() -> None:
    assert ask(waiting(89), Limits(max_queue_size=90)) is None


def test_several_greedy_callers_end_with_about_the_same_share() -> None:
    limits, pending, known = Limits(max_queue_size=900), Pending(), [device()]
    callers = ("a", "b", "c")

    def enters(caller: str) -> bool:
        return ask(pending, limits, caller=caller, devices=known) is None

    while any(map(enters, callers)):
        for each in filter(enters, callers):
            pending.add(request(caller=each))
    shares = [pending.held.get(each, 0) for each in callers]
    assert sum(shares) == pytest.approx(900 * 24 / 25, abs=3)
    assert max(shares) - min(shares) <= 1


def test_one_large_request_of_a_caller_who_holds_nothing_needs_only_the_room() -> None:
    assert ask(Pending(), Limits(max_queue_size=4), 4, caller="anyone") is None


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("busy", [0, 64])
def test_a_call_that_could_not_be_in_time_even_alone_is_refused_for_good(
    devices: int, busy: int
) -> None:
    limits = Limits(max_batch_size=64)
    known = [device(limits) for _ in range(devices)]
    alone = 4 * seconds_of(64, 640) / devices  # 256 requests
    for share, expected in ((0.6, NeverInTime), (0.9, Overloaded)):
        refused = ask(waiting(busy), limits, 256, deadline=share * alone, devices=known)
        # An idle device that has not run for long is given a call that it may just do.
        assert type(refused) is expected or (not busy and share == 0.9 and refused is None)
    refused = ask(waiting(0), limits, 256, deadline=0.5 * alone, devices=known)
    most = int(str(refused).split("at most ")[1].split()[0])
    assert 80 < most <= 128
    assert ask(waiting(0), limits, most, deadline=0.5 * alone, devices=known) is None


def test_a_single_request_is_never_refused_for_good() -> None:
    assert type(ask(waiting(9), Limits(), deadline=1e-4)) is Overloaded


def test_equal_inputs_which_run_once_are_counted_once() -> None:
    limits = Limits(max_batch_size=64)
    deadline = 0.5 * 4 * seconds_of(64, 640)  # of 256 that differ
    known = [device(limits)]
    assert type(ask(Pending(), limits, 256, deadline=deadline, devices=known)) is NeverInTime
    assert ask(Pending(), limits, 256, deadline=deadline, devices=known, key="same") is None


def test_short_texts_after_long_ones_are_not_taken_for_long_ones() -> None:
    limits = Limits(max_batch_size=64)
    used_to_long = device(limits, usual=400)
    alone = 4 * seconds_of(64, 640)  # 256 requests of 10 tokens; of 400 they would take 9 times it
    refused = ask(waiting(1), limits, 256, deadline=1.1 * alone, devices=[used_to_long])
    assert type(refused) is Overloaded


def test_a_device_that_is_down_counts_too_for_it_will_be_up() -> None:
    limits = Limits(max_batch_size=64)
    known = [device(limits) for _ in range(4)]
    alone = seconds_of(64, 640)  # 256 requests on four
    for each in known[1:]:
        each.is_up = False
    assert type(ask(waiting(1), limits, 256, deadline=1.1 * alone, devices=known)) is Overloaded
    known[3] = ReplicaModel(limits)  # has never been up
    assert type(ask(waiting(1), limits, 256, deadline=1.1 * alone, devices=known)) is Overloaded
    assert type(ask(waiting(1), limits, 256, deadline=0.6 * alone, devices=known)) is NeverInTime


def test_where_not_even_one_would_be_in_time_nobody_is_told_to_send_one() -> None:
    refused = ask(waiting(1), Limits(), 256, deadline=1e-4)
    assert type(refused) is NeverInTime
    assert str(refused).endswith("in 0.0 s: allow more time")


def test_a_call_without_a_chance_is_let_in_where_nothing_has_run_for_ten_minutes() -> None:
    """Nothing else could show that it has one by now."""
    limits = Limits(max_batch_size=64)
    known = device(limits, came_up=100.0)

    def at(now: float, waits: int = 0) -> type[BatcherError] | None:
        deadline = now + seconds_of(64, 640)  # a quarter of what it takes
        refused = ask(waiting(waits), limits, 256, deadline=deadline, devices=[known], now=now)
        return None if refused is None else type(refused)

    assert at(101.0) is NeverInTime  # the warm-up has told how fast it is
    assert at(700.0) is None
    assert at(700.0, waits=1) is NeverInTime
    known.began(700.0, 0.1)
    assert at(700.05) is NeverInTime
    known.ended(700.1, 10, 10, 0.1)
    assert at(1300.0) is NeverInTime
    known.began(1300.0, 0.1)
    known.ended(1300.1, 0, 0, 0.1)  # a canary says nothing of large batches
    assert at(1302.0) is None


def test_more_than_may_ever_wait_is_refused_for_good_and_names_the_limit() -> None:
    limits = Limits(max_queue_size=8, max_queue_tokens=100)
    assert ask(Pending(), limits, 8, cost=12) is None
    for count, cost in ((9, 1), (8, 13)):
        refused = ask(Pending(), limits, count, cost=cost)
        assert type(refused) is CallTooLarge
        assert "max_queue_size=8 inputs of max_queue_tokens=100 tokens" in str(refused)
