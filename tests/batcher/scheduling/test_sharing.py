"""Equal inputs in flight are run once, and each who asked has an answer, a deadline and an end of
their own."""

from __future__ import annotations

from typing import Any

import pytest

from batcher.collector import Collector
from batcher.errors import Cancelled, DeadlineExceeded, Overloaded, PoisonRequest, RunnerFailed
from batcher.limits import Limits
from batcher.request import Answer, Batch, Request, State
from batcher.runner import RunnerInfo
from tests.fakes import RecordingSink, VirtualClock, payloads_of, request


class Bench:
    """A collector in virtual time with one replica, and callers whose inputs are their keys."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = VirtualClock()
        self.collector = Collector(limits or Limits(), self.clock, 1)
        self.sink = RecordingSink()
        self.collector.replica_up(0, RunnerInfo())

    def submit(self, *keys: str, patience: float = float("inf"), **more: Any) -> list[Request]:
        now = self.clock.now()
        requests = [
            request(self.sink, payload=key, key=key, arrival=now, deadline=now + patience, **more)
            for key in keys
        ]
        self.collector.submit(requests)
        return requests

    def take(self) -> Batch:
        batch = self.collector.next_batch(0)
        assert batch is not None
        return batch

    def outcome(self, whose: Request) -> Any:
        (outcome,) = self.sink.outcomes_of(whose)
        return outcome

    def lose(self, batch: Batch) -> int:
        self.collector.replica_down(0, "signal 9")
        poison = self.collector.requeue(batch, lost=True)
        self.collector.replica_up(0, RunnerInfo())
        return poison


def run(bench: Bench, batch: Batch) -> None:
    bench.collector.settle(batch, [f"result of {payload}" for payload in payloads_of(batch)], 0.01)


def test_equal_inputs_that_wait_share_a_row_and_each_has_its_answer() -> None:
    bench = Bench()
    requests = bench.submit("a", "b", "a", "a")
    batch = bench.take()
    assert payloads_of(batch) == ["a", "b"]
    assert batch.row(0) == [requests[0], requests[2], requests[3]]
    run(bench, batch)
    answers = [bench.outcome(each).value for each in requests]
    assert answers == ["result of a", "result of b", "result of a", "result of a"]
    report = bench.outcome(requests[0]).batch
    assert (report.size, report.requests) == (2, 4)
    assert bench.collector.snapshot().shared == 2


def test_they_share_across_lanes_and_the_urgent_one_brings_the_other_along() -> None:
    bench = Bench()
    (bulk,) = bench.submit("a", priority=7)
    (urgent,) = bench.submit("a", priority=0)
    assert bench.take().row(0) == [urgent, bulk]


def test_whoever_asks_for_what_runs_joins_its_row() -> None:
    bench = Bench()
    bench.submit("a")
    batch = bench.take()
    (joiner,) = bench.submit("a")
    assert joiner.state is State.RUNNING
    assert bench.collector.snapshot().waiting == 0
    run(bench, batch)
    assert bench.outcome(joiner).value == "result of a"
    assert bench.outcome(joiner).queue_wait == 0.0
    (later,) = bench.submit("a")
    assert bench.take().requests == [later]  # what has ended runs again


def test_joining_needs_no_room_in_the_queue() -> None:
    bench = Bench(Limits(max_batch_size=1, max_queue_size=1))
    bench.submit("a")
    batch = bench.take()
    bench.submit("b")
    (joiner,) = bench.submit("a")
    with pytest.raises(Overloaded):
        bench.submit("a", "c")  # all of a call or none
    assert bench.collector.snapshot().accepted == 3
    run(bench, batch)
    assert len(bench.sink.outcomes) == 2
    assert bench.outcome(joiner).value == "result of a"


def test_one_who_gives_up_takes_nobody_with_it_waiting_or_running() -> None:
    bench = Bench()
    first, second, third = bench.submit("a", "a", "a")
    bench.collector.withdraw([first], Cancelled("gone"))
    batch = bench.take()
    assert batch.row(0) == [second, third]
    (joiner,) = bench.submit("a")
    bench.collector.withdraw([second], Cancelled("gone"))
    bench.collector.withdraw([third], DeadlineExceeded("late"))
    run(bench, batch)
    assert bench.outcome(joiner).value == "result of a"
    assert isinstance(bench.outcome(first), Cancelled)
    assert isinstance(bench.outcome(second), Cancelled)
    assert isinstance(bench.outcome(third), DeadlineExceeded)


def test_a_row_that_all_have_left_can_still_be_joined() -> None:
    bench = Bench()
    (gone,) = bench.submit("a")
    batch = bench.take()
    bench.collector.withdraw([gone], Cancelled("gone"))
    (joiner,) = bench.submit("a")
    run(bench, batch)
    assert bench.outcome(joiner).value == "result of a"


def test_one_that_is_late_in_the_queue_is_told_so_and_the_equal_one_runs() -> None:
    bench = Bench()
    (late,) = bench.submit("a", patience=1.0)
    (fine,) = bench.submit("a")
    bench.clock.step(until=2.0)
    assert bench.take().row(0) == [fine]
    assert isinstance(bench.outcome(late), DeadlineExceeded)


def test_a_row_that_raises_fails_each_with_an_error_of_its_own() -> None:
    bench = Bench()
    requests = bench.submit("a", "a", "b")
    batch = bench.take()
    (joiner,) = bench.submit("a")
    bench.collector.settle(batch, [ValueError("bad"), "fine"], 0.01)
    errors = [bench.outcome(each) for each in (*requests[:2], joiner)]
    assert all(isinstance(each, RunnerFailed) for each in errors)
    assert len({id(each) for each in errors}) == 3
    assert bench.outcome(requests[2]).value == "fine"


def test_in_halves_each_row_keeps_those_who_wait_for_it() -> None:
    bench = Bench()
    requests = bench.submit("a", "b", "a", "c")
    batch = bench.take()
    (joiner,) = bench.submit("c")
    bench.collector.withdraw([requests[0]], Cancelled("gone"))
    one, other = bench.collector.halve(batch)
    assert [one.row(0), one.row(1), other.row(0)] == [
        [requests[2]],
        [requests[1]],
        [requests[3], joiner],
    ]
    (late_joiner,) = bench.submit("c")  # of a part that has not even begun
    run(bench, one)
    run(bench, other)
    assert bench.outcome(late_joiner).value == "result of c"
    assert isinstance(bench.outcome(requests[2]), Answer)


def test_a_lost_worker_puts_back_all_who_waited_for_a_row_and_they_share_again() -> None:
    bench = Bench()
    requests = bench.submit("a", "a")
    batch = bench.take()
    requests += bench.submit("a")
    assert bench.lose(batch) == 0
    assert bench.collector.snapshot().waiting == 3
    requests += bench.submit("a")  # nothing runs that it could join
    again = bench.take()
    assert again.reason == "retry"
    assert again.row(0) == requests
    run(bench, again)
    assert all(bench.outcome(each).value == "result of a" for each in requests)


def test_an_input_that_kills_workers_condemns_all_who_asked_for_it_and_nobody_else() -> None:
    bench = Bench()
    (other,) = bench.submit("other")
    poison = bench.submit("a", "a")
    for _ in range(2):
        assert bench.lose(bench.take()) == 0
    batch = next(b for b in iter(bench.take, None) if payloads_of(b) == ["a"] or run(bench, b))
    poison += bench.submit("a")
    assert bench.lose(batch) == 3
    assert all(isinstance(bench.outcome(each), PoisonRequest) for each in poison)
    assert len({id(bench.outcome(each)) for each in poison}) == 3
    assert bench.outcome(other).value == "result of other"
    with pytest.raises(PoisonRequest):
        bench.submit("a")


def test_without_a_key_equal_payloads_run_each_on_its_own() -> None:
    bench = Bench()
    requests = [request(bench.sink, payload="a") for _ in range(2)]
    bench.collector.submit(requests)
    assert payloads_of(bench.take()) == ["a", "a"]


# Time, through the collector


def test_who_would_be_late_is_refused_at_the_door_but_for_one_try_a_second() -> None:
    bench = Bench()
    bench.submit("warm")
    bench.collector.settle(bench.take(), [0], 1.0)  # so batches take a second
    with pytest.raises(Overloaded, match="too long"):
        bench.submit("a", patience=0.5)
    bench.clock.step(until=1.0)
    (first,) = bench.submit("a", patience=0.5)  # hopeless as far as known, but it is tried
    batch = bench.take()
    with pytest.raises(Overloaded, match="too long") as refused:
        bench.submit("b", patience=0.5)
    assert refused.value.retry_after > 0.5
    bench.submit("c", patience=60.0)
    bench.collector.settle(batch, [0], 0.1)
    assert isinstance(bench.outcome(first), Answer)
    assert bench.collector.snapshot().refused == {"Overloaded": 2}
