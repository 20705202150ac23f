"""The collector in virtual time, in one thread; and with real threads where it is about those."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from batcher.collector import Collector
from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    Overloaded,
    RunnerFailed,
)
from batcher.limits import Limits
from batcher.request import Answer, Batch, Request, State
from batcher.runner import RunnerInfo
from batcher.scheduling import dispatch
from tests.fakes import FakeClock, OutOfEvents, RecordingSink, Signal, VirtualClock, join, request

LINGER = Limits(max_batch_size=3, max_batch_tokens=12, max_wait=0.5)


class Bench:
    """A collector in virtual time with its replicas up, and a caller who keeps every outcome."""

    def __init__(self, limits: Limits | None = None, replicas: int = 1) -> None:
        self.clock = VirtualClock()
        self.collector = Collector(limits or Limits(), self.clock, replicas)
        self.sink = RecordingSink()
        for replica in range(replicas):
            self.collector.replica_up(replica, RunnerInfo())

    def request(self, cost: int = 1, patience: float = float("inf")) -> Request:
        now = self.clock.now()
        return request(self.sink, cost=cost, arrival=now, deadline=now + patience)

    def submit(self, *costs: int, patience: float = float("inf")) -> list[Request]:
        requests = [self.request(cost, patience) for cost in costs or (1,)]
        self.collector.submit(requests)
        return requests

    def take(self, replica: int = 0) -> Batch:
        batch = self.collector.next_batch(replica)
        assert batch is not None
        return batch

    def outcome(self, whose: Request) -> Any:
        (outcome,) = self.sink.outcomes_of(whose)
        return outcome

    def counts(self) -> dict[str, int]:
        snapshot = self.collector.snapshot()
        names = ("accepted", "ok", "failed", "expired", "cancelled", "waiting", "running")
        return {name: count for name in names if (count := getattr(snapshot, name))}


# When a batch closes


def test_a_lone_request_waits_for_nobody() -> None:
    bench = Bench()
    (lone,) = bench.submit()
    batch = bench.take()
    assert (list(batch.requests), batch.reason, batch.closed) == ([lone], "idle", 0.0)


def test_underfull_batch_closes_exactly_at_max_wait() -> None:
    bench = Bench(LINGER)
    bench.clock.at(1.0, bench.submit)
    batch = bench.take()
    assert (batch.size, batch.reason, batch.closed) == (1, "max_wait", 1.5)


def test_max_wait_counts_from_the_oldest_arrival_and_not_from_when_the_thread_looked() -> None:
    bench = Bench(LINGER)
    bench.submit()
    bench.clock.step(until=0.25)
    assert bench.take().closed == 0.5
    bench.submit()
    bench.clock.step(until=7.0)
    assert bench.take(0).closed == 7.0  # overdue: no further wait


def test_those_who_arrive_at_the_very_instant_of_closing_still_join() -> None:
    bench = Bench(LINGER)
    bench.clock.at(1.0, bench.submit)
    bench.clock.at(1.5, bench.submit)
    assert bench.take().size == 2


def test_a_batch_closes_at_the_arrival_that_fills_it() -> None:
    bench = Bench(LINGER)
    for at in (1.0, 1.125, 1.25):
        bench.clock.at(at, bench.submit)
    batch = bench.take()
    assert (batch.size, batch.reason, batch.closed) == (3, "full", 1.25)


def test_a_batch_closes_at_the_arrival_that_uses_up_its_tokens() -> None:
    bench = Bench(LINGER)
    bench.clock.at(1.0, lambda: bench.submit(3))
    bench.clock.at(1.125, lambda: bench.submit(6))
    batch = bench.take()
    assert (batch.size, batch.tokens, batch.reason, batch.closed) == (2, 12, "tokens", 1.125)


def test_what_arrives_while_the_replica_is_busy_goes_together_as_soon_as_it_is_free() -> None:
    bench = Bench()
    bench.submit()
    first = bench.take()
    bench.clock.at(1.0, bench.submit)
    bench.clock.at(2.0, bench.submit)
    bench.clock.step()
    bench.clock.step()
    bench.collector.settle(first, [0])
    second = bench.take()
    assert (second.size, second.closed) == (2, 2.0)


def test_a_linger_is_not_kept_for_one_who_has_gone() -> None:
    bench = Bench(LINGER)
    (gone,) = bench.submit()
    bench.clock.at(0.25, lambda: bench.collector.withdraw([gone], Cancelled("gone")))
    bench.clock.at(0.375, bench.submit)
    assert bench.take().closed == 0.875


def test_the_batch_says_what_was_predicted_and_what_it_held() -> None:
    bench = Bench()
    bench.submit(4, 10)
    bench.collector.settle(bench.take(), ["a", "b"], seconds=0.02)
    (one, _) = bench.submit(4, 10)
    batch = bench.take()
    assert batch.predicted == pytest.approx(0.02, rel=0.01)
    bench.clock.step(until=0.5)
    bench.collector.settle(batch, ["a", "b"], seconds=0.025)
    answer = bench.outcome(one)
    assert isinstance(answer, Answer)
    assert (answer.value, answer.queue_wait) == ("a", 0.0)
    report = answer.batch
    assert (report.size, report.tokens, report.useful_tokens, report.replica) == (2, 20, 14, 0)
    assert (report.inference, report.predicted) == (0.025, batch.predicted)


def test_queue_wait_is_arrival_to_closing() -> None:
    bench = Bench(LINGER)
    (one,) = bench.submit()
    bench.collector.settle(bench.take(), ["a"])
    assert bench.outcome(one).queue_wait == 0.5
    assert bench.collector.snapshot().queue_wait.sum == 0.5


# Who gets what


def test_each_request_gets_the_result_in_its_own_place() -> None:
    bench = Bench()
    requests = bench.submit(1, 1, 1)
    bench.collector.settle(bench.take(), ["a", "b", "c"])
    assert [bench.outcome(each).value for each in requests] == ["a", "b", "c"]


def test_outcomes_of_a_batch_are_delivered_to_a_sink_in_one_call() -> None:
    bench = Bench()
    bench.submit(1, 1)
    bench.submit(1)
    bench.collector.settle(bench.take(), "abc")
    assert [len(delivery) for delivery in bench.sink.deliveries] == [3]


def test_a_batch_of_several_callers_goes_to_each_their_own() -> None:
    bench, other = Bench(), RecordingSink()
    (ours,) = bench.submit()
    theirs = request(other)
    bench.collector.submit([theirs])
    bench.collector.settle(bench.take(), ["ours", "theirs"])
    assert [bench.outcome(ours).value, other.outcomes[0][1].value] == ["ours", "theirs"]  # type: ignore[union-attr]
    assert len(bench.sink.outcomes) == len(other.outcomes) == 1


def test_an_exception_among_the_results_fails_its_own_request_only() -> None:
    bench = Bench()
    bad, good = bench.submit(1, 1)
    bench.collector.settle(bench.take(), [ValueError("not\na number"), "b"])
    assert isinstance(bench.outcome(bad), RunnerFailed)
    assert str(bench.outcome(bad)) == "ValueError: not a number"
    assert bench.outcome(good).value == "b"
    assert bench.counts() == {"accepted": 2, "ok": 1, "failed": 1}


def test_an_exception_that_cannot_even_say_what_it_is_fails_its_own_request_only() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    bench = Bench()
    bad, good = bench.submit(1, 1)
    bench.collector.settle(bench.take(), [Mute(), "b"])
    assert str(bench.outcome(bad)) == "Mute"
    assert bench.outcome(good).value == "b"


def test_results_may_be_rows_of_an_array() -> None:
    numpy = pytest.importorskip("numpy")
    bench = Bench()
    one, two = bench.submit(1, 1)
    bench.collector.settle(bench.take(), numpy.array([[1.0, 2.0], [3.0, 4.0]]))
    assert bench.outcome(one).value.tolist() == [1.0, 2.0]
    assert bench.outcome(two).value.tolist() == [3.0, 4.0]


def test_a_falsy_result_is_a_result() -> None:
    bench = Bench()
    requests = bench.submit(1, 1, 1)
    bench.collector.settle(bench.take(), [None, 0, []])
    assert [bench.outcome(each).value for each in requests] == [None, 0, []]


def test_a_sink_that_raises_costs_nobody_else_an_answer() -> None:
    class Broken:
        def deliver(self, settled: object) -> None:
            raise OSError("the caller's own trouble")

    bench = Bench()
    lost = Request(None, 1, 0.0, float("inf"), Broken())
    bench.collector.submit([lost])
    (kept,) = bench.submit()
    bench.collector.settle(bench.take(), ["a", "b"])
    assert bench.outcome(kept).value == "b"
    assert bench.counts() == {"accepted": 2, "ok": 2}


def test_a_wrong_number_of_results_is_a_bug_that_settles_nobody() -> None:
    bench = Bench()
    requests = bench.submit(1, 1)
    batch = bench.take()
    with pytest.raises(AssertionError, match="one result per row"):
        bench.collector.settle(batch, ["a"])
    assert bench.sink.outcomes == []
    assert bench.collector.is_in_flight(batch)
    bench.collector.fail(batch, RunnerFailed("so the thread can still give everyone an answer"))
    assert all(isinstance(bench.outcome(each), RunnerFailed) for each in requests)


ENDS: list[Callable[[Collector, Batch], object]] = [
    lambda collector, batch: collector.settle(batch, ["second"]),
    lambda collector, batch: collector.fail(batch, RunnerFailed("late")),
    lambda collector, batch: collector.halve(batch),
    lambda collector, batch: collector.requeue(batch, lost=True),
]


@pytest.mark.parametrize("end", ENDS)
def test_ending_twice_is_a_bug_and_changes_nothing(
    end: Callable[[Collector, Batch], object],
) -> None:
    bench = Bench()
    (lone,) = bench.submit()
    batch = bench.take()
    bench.collector.settle(batch, ["first"], 0.5)
    with pytest.raises(AssertionError, match="ended twice"):
        end(bench.collector, batch)
    assert not bench.collector.is_in_flight(batch)
    assert bench.outcome(lone).value == "first"
    assert bench.counts() == {"accepted": 1, "ok": 1}


def test_a_batch_counts_its_tokens_with_and_without_padding() -> None:
    bench = Bench(Limits(max_batch_size=3))
    bench.submit(3, 10, 5)
    batch = bench.take()
    assert (batch.size, batch.tokens, batch.useful_tokens) == (3, 30, 18)


# Those who give up


def test_what_is_withdrawn_in_the_queue_never_runs() -> None:
    bench = Bench()
    gone, stays = bench.submit(1, 1)
    bench.collector.withdraw([gone], Cancelled("gone"))
    assert list(bench.take().requests) == [stays]
    assert isinstance(bench.outcome(gone), Cancelled)


def test_what_is_withdrawn_while_it_runs_loses_its_result_and_nobody_elses() -> None:
    bench = Bench()
    gone, stays = bench.submit(1, 1)
    batch = bench.take()
    bench.collector.withdraw([gone], Cancelled("gone"))
    assert bench.counts() == {"accepted": 2, "cancelled": 1, "running": 1}
    bench.collector.settle(batch, ["a", "b"])
    assert isinstance(bench.outcome(gone), Cancelled)
    assert bench.outcome(stays).value == "b"
    assert bench.counts() == {"accepted": 2, "ok": 1, "cancelled": 1}


def test_withdrawing_what_has_its_outcome_does_nothing() -> None:
    bench = Bench()
    requests = bench.submit(1)
    bench.collector.settle(bench.take(), ["a"])
    bench.collector.withdraw(requests, Cancelled("gone"))
    bench.collector.withdraw(requests, Cancelled("gone"))
    assert bench.counts() == {"accepted": 1, "ok": 1}
    assert bench.outcome(requests[0]).value == "a"


def test_the_reason_of_a_withdrawal_decides_how_it_is_counted() -> None:
    bench = Bench()
    one, two = bench.submit(1, 1)
    bench.collector.withdraw([one], Cancelled("gone"))
    bench.collector.withdraw([two], DeadlineExceeded("late"))
    assert bench.counts() == {"accepted": 2, "cancelled": 1, "expired": 1}


def test_what_expires_in_the_queue_is_answered_when_the_next_batch_is_cut() -> None:
    bench = Bench()
    late = bench.submit(1, 1, patience=1.0)
    bench.clock.step(until=1.0)
    (fine,) = bench.submit()
    assert list(bench.take().requests) == [fine]
    assert all(isinstance(bench.outcome(each), DeadlineExceeded) for each in late)
    assert bench.counts() == {"accepted": 3, "expired": 2, "running": 1}


def test_a_queue_of_nothing_but_expired_requests_is_answered_without_a_batch() -> None:
    bench = Bench()
    (late,) = bench.submit(patience=1.0)
    bench.clock.step(until=1.0)
    with pytest.raises(OutOfEvents):
        bench.take()
    assert isinstance(bench.outcome(late), DeadlineExceeded)
    assert not bench.collector.snapshot().replicas[0].busy


# Who may come in


def test_before_a_replica_is_up_nothing_is_accepted() -> None:
    collector = Collector(Limits(), VirtualClock())
    with pytest.raises(NotReady):
        collector.submit([request()])
    snapshot = collector.snapshot()
    assert (snapshot.accepted, snapshot.waiting, snapshot.refused) == (0, 0, {"NotReady": 1})


def test_a_refusal_leaves_everything_as_it_was() -> None:
    bench = Bench(Limits(max_queue_size=2))
    bench.submit(1)
    extra = [bench.request(), bench.request()]
    with pytest.raises(Overloaded):
        bench.collector.submit(extra)
    assert [each.state for each in extra] == [State.WAITING] * 2
    assert bench.counts() == {"accepted": 1, "waiting": 1}
    assert bench.collector.snapshot().refused == {"Overloaded": 2}
    assert bench.take().size == 1
    assert bench.sink.outcomes == []


def test_what_runs_takes_no_place_in_the_queue() -> None:
    bench = Bench(Limits(max_batch_size=2, max_queue_size=2))
    bench.submit(1, 1)
    bench.take()
    bench.submit(1, 1)
    assert bench.counts() == {"accepted": 4, "waiting": 2, "running": 2}


def test_while_draining_nothing_is_accepted() -> None:
    bench = Bench()
    assert bench.collector.drain(until=0.0)
    with pytest.raises(Draining):
        bench.submit()


# Several replicas


def test_two_replicas_share_what_is_more_than_one_batch() -> None:
    bench = Bench(Limits(max_batch_size=2), replicas=2)
    requests = bench.submit(1, 1, 1)
    assert list(bench.take(0).requests) == requests[:2]
    assert list(bench.take(1).requests) == requests[2:]
    assert [replica.busy for replica in bench.collector.snapshot().replicas] == [True, True]


def test_a_replica_that_is_down_takes_no_batch() -> None:
    bench = Bench(replicas=2)
    bench.submit()
    bench.collector.replica_down(0, "signal 9")
    assert bench.collector.next_batch(0) is None
    assert bench.take(1).size == 1


def test_a_death_is_counted_once_under_its_reason() -> None:
    bench = Bench()
    bench.collector.replica_down(0, "signal 9")
    bench.collector.replica_down(0, "signal 11")
    (replica,) = bench.collector.snapshot().replicas
    assert (replica.up, dict(replica.restarts)) == (False, {"signal 9": 1})
    bench.collector.replica_up(0, RunnerInfo(pid=7))
    (replica,) = bench.collector.snapshot().replicas
    assert (replica.up, replica.info) == (True, RunnerInfo(pid=7))


def test_what_waits_when_the_last_replica_dies_is_served_by_the_next() -> None:
    bench = Bench()
    (waits,) = bench.submit()
    bench.collector.replica_down(0, "signal 9")
    (comes,) = bench.submit()
    bench.collector.replica_up(0, RunnerInfo())
    assert list(bench.take().requests) == [waits, comes]


def test_a_replica_that_is_replaced_in_vain_ends_the_waiting_and_says_when_to_come_back() -> None:
    bench = Bench()
    (waits,) = bench.submit()
    bench.collector.replica_down(0, "signal 9")
    bench.collector.replica_waits(0, 1.0, "signal 9", is_broken=False)
    assert bench.collector.snapshot().waiting == 1
    bench.collector.replica_waits(0, 5.0, "no weights", is_broken=True)
    assert isinstance(bench.outcome(waits), NotReady)
    with pytest.raises(NotReady, match="no weights") as refused:
        bench.submit()
    assert refused.value.retry_after == 5.0
    (replica,) = bench.collector.snapshot().replicas
    assert (replica.state, replica.reason, replica.retry_in) == ("broken", "no weights", 5.0)
    bench.collector.replica_up(0, RunnerInfo())
    (served,) = bench.submit()
    assert list(bench.take().requests) == [served]


def test_one_broken_replica_of_two_turns_nobody_away() -> None:
    bench = Bench(replicas=2)
    (waits,) = bench.submit()
    bench.collector.replica_down(0, "signal 9")
    bench.collector.replica_waits(0, 5.0, "signal 9", is_broken=True)
    (comes,) = bench.submit()
    assert list(bench.take(1).requests) == [waits, comes]


# The end


def test_draining_serves_what_was_accepted_at_once_and_then_ends() -> None:
    bench = Bench(LINGER)
    (one,) = bench.submit()
    assert not bench.collector.drain(until=0.0)
    batch = bench.take()
    assert (batch.reason, batch.closed) == ("drain", 0.0)
    assert not bench.collector.finished
    bench.collector.settle(batch, ["a"])
    assert bench.outcome(one).value == "a"
    assert bench.collector.finished
    assert bench.collector.next_batch(0) is None


def test_draining_when_nothing_was_accepted_ends_at_once() -> None:
    bench = Bench()
    assert bench.collector.drain(until=0.0)
    assert bench.collector.next_batch(0) is None


def test_a_drain_gives_up_at_its_deadline_and_not_before() -> None:
    bench = Bench()
    bench.submit()
    bench.take()
    assert not bench.collector.drain(until=3.0)
    assert bench.clock.now() == 3.0


def test_a_drain_ends_when_the_last_caller_gives_up() -> None:
    bench = Bench()
    requests = bench.submit(1, 1)
    bench.take()
    bench.clock.at(1.0, lambda: bench.collector.withdraw(requests, Cancelled("gone")))
    assert bench.collector.drain(until=3.0)
    assert bench.clock.now() == 1.0


def test_a_close_answers_what_waits_and_leaves_what_runs_to_its_thread() -> None:
    bench = Bench(Limits(max_batch_size=1))
    runs, waits = bench.submit(1, 1)
    batch = bench.take()
    bench.collector.close(Draining("closed", 1.0))
    assert isinstance(bench.outcome(waits), Draining)
    assert bench.sink.outcomes_of(runs) == []
    assert bench.collector.next_batch(0) is None
    bench.collector.settle(batch, ["a"])
    assert bench.outcome(runs).value == "a"
    assert bench.counts() == {"accepted": 2, "ok": 1, "failed": 1}


def test_a_drain_cut_short_by_a_close_does_not_claim_that_all_was_answered() -> None:
    bench = Bench()
    bench.submit()
    bench.take()
    bench.clock.at(1.0, lambda: bench.collector.close(Draining("closed", 1.0)))
    assert not bench.collector.drain(until=3.0)
    assert bench.clock.now() == 1.0


def test_closing_twice_changes_nothing() -> None:
    bench = Bench()
    bench.submit()
    bench.collector.close(Draining("first", 1.0))
    bench.collector.close(Draining("second", 1.0))
    assert [str(outcome) for _, outcome in bench.sink.outcomes] == ["first"]


# What it says about itself


def test_a_snapshot_tells_what_waits_how_long_and_what_it_would_take() -> None:
    bench = Bench(Limits(max_batch_size=2, max_wait=9.0))
    bench.submit(4, 4)
    bench.collector.settle(bench.take(), "ab", seconds=0.02)
    bench.submit(4)
    bench.clock.step(until=0.25)
    bench.submit(2)
    snapshot = bench.collector.snapshot()
    assert (snapshot.phase, snapshot.ready) == ("open", True)
    assert (snapshot.waiting, snapshot.waiting_tokens, snapshot.oldest_age) == (2, 6, 0.25)
    assert snapshot.predicted_batch == pytest.approx(0.02, rel=0.01)
    assert snapshot.batches == {"full": 1}
    assert snapshot.batch_size.sum == 2


def test_a_snapshot_is_frozen() -> None:
    bench = Bench()
    before = bench.collector.snapshot()
    bench.submit()
    bench.collector.replica_down(0, "signal 9")
    assert (before.accepted, before.replicas[0].up) == (0, True)
    assert bench.collector.snapshot().ready is False


def test_a_failed_batch_teaches_the_cost_model_nothing() -> None:
    bench = Bench()
    bench.submit()
    bench.collector.fail(bench.take(), RunnerFailed("no"))
    assert bench.collector._schedule.replicas[0].cost.observations == 0
    assert bench.collector.snapshot().inference.count == 0


def test_it_introduces_itself() -> None:
    bench = Bench(Limits(max_batch_size=1), replicas=2)
    bench.submit(1, 1, 1)
    bench.take(1)
    assert repr(bench.collector) == "<Collector open, <Schedule 2 waiting, 1 replicas busy>>"


# With real threads: blocking, waking up, and no wake-up lost


class Threads:
    """One batching thread per replica, which only keeps what it gets."""

    def __init__(self, limits: Limits, replicas: int) -> None:
        self.clock = FakeClock()
        self.collector = Collector(limits, self.clock, replicas)
        self.sink = RecordingSink()
        self.taken: list[Batch] = []
        self.settle: Callable[[Batch], None] = lambda batch: self.collector.settle(
            batch, [None] * batch.size
        )
        self.threads = [
            threading.Thread(target=self._main, args=(index,), name=f"taker-{index}")
            for index in range(replicas)
        ]
        for index, thread in enumerate(self.threads):
            self.collector.replica_up(index, RunnerInfo())
            thread.start()

    def _main(self, replica: int) -> None:
        while (batch := self.collector.next_batch(replica)) is not None:
            self.taken.append(batch)
            self.settle(batch)

    def submit(self, count: int = 1) -> None:
        now = self.clock.now()
        self.collector.submit([request(self.sink, arrival=now) for _ in range(count)])

    def end(self, threads: Iterable[threading.Thread] | None = None) -> None:
        self.collector.close(Draining("closed", 1.0))
        for thread in threads or self.threads:
            join(thread)


def test_a_blocked_thread_wakes_for_a_request() -> None:
    threads = Threads(Limits(), replicas=1)
    threads.clock.until_blocked(None)
    threads.submit()
    threads.sink.until_settled(1)
    threads.end()


def test_a_thread_that_lingers_cuts_when_the_clock_says_so_and_not_before() -> None:
    threads = Threads(LINGER, replicas=1)
    threads.submit()
    threads.clock.until_blocked(0.5)
    threads.clock.advance(0.25)
    threads.submit()
    threads.clock.until_blocked(0.5)
    assert threads.taken == []
    threads.clock.advance(0.25)
    threads.sink.until_settled(2)
    threads.end()
    assert [(batch.size, batch.closed) for batch in threads.taken] == [(2, 0.5)]


def test_a_thread_that_lingers_wakes_when_the_batch_is_full() -> None:
    threads = Threads(LINGER, replicas=1)
    threads.submit()
    threads.clock.until_blocked(0.5)
    threads.submit(2)
    threads.sink.until_settled(3)
    threads.end()
    assert [batch.reason for batch in threads.taken] == ["full"]


def test_when_the_replica_that_lingers_dies_another_takes_its_batch_on_time() -> None:
    threads = Threads(LINGER, replicas=3)
    threads.clock.until_blocked(None, count=3)
    threads.submit()  # wakes one of the three, which lingers
    threads.clock.until_blocked(0.5)
    for replica in (0, 1):  # whichever lingered: if it was the third, both are bystanders
        threads.collector.replica_down(replica, "signal 9")
    threads.clock.until_blocked(0.5)
    for thread in threads.threads[:2]:
        join(thread)
    threads.clock.until_blocked(0.5)
    threads.clock.advance(0.5)
    threads.sink.until_settled(1)
    threads.end()
    assert [batch.replica for batch in threads.taken] == [2]


def test_what_one_batch_leaves_over_wakes_the_next_free_replica() -> None:
    threads = Threads(Limits(max_batch_size=1), replicas=2)
    both = threading.Barrier(2)
    threads.settle = lambda batch: (both.wait(30), threads.collector.settle(batch, [None]))[1]
    threads.clock.until_blocked(None, count=2)
    threads.submit(2)  # one notification, two batches: neither ends unless both have begun
    threads.sink.until_settled(2)
    threads.end()
    assert {batch.replica for batch in threads.taken} == {0, 1}


def test_a_drain_wakes_every_thread_and_returns_when_the_last_batch_is_settled() -> None:
    threads = Threads(LINGER, replicas=3)
    threads.submit()
    assert threads.collector.drain(until=1.0)
    for thread in threads.threads:
        join(thread)
    assert [batch.reason for batch in threads.taken] == ["drain"]


def test_a_close_wakes_a_drain_that_waits() -> None:
    threads = Threads(Limits(), replicas=1)
    taken = Signal("no batch was taken")
    threads.settle = lambda batch: taken.give()
    threads.submit()
    taken.wait()
    returned: list[bool] = []
    drain = threading.Thread(
        target=lambda: returned.append(threads.collector.drain(until=9.0)), name="drain"
    )
    drain.start()
    threads.clock.until_blocked(9.0)
    threads.end()
    join(drain)
    assert returned == [False]


def test_ten_thousand_requests_from_four_callers_get_one_outcome_each_from_four_replicas() -> None:
    limits = Limits(max_batch_size=7, max_queue_size=100_000)
    threads = Threads(limits, replicas=4)
    sinks = [RecordingSink() for _ in range(4)]
    given: list[list[Request]] = [[] for _ in sinks]

    def call(place: int) -> None:
        for number in range(2500):
            requests = [request(sinks[place], payload=number)]
            threads.collector.submit(requests)
            given[place] += requests
            if number % 5 == 0:
                threads.collector.withdraw(requests, Cancelled("gone"))

    callers = [threading.Thread(target=call, args=(place,)) for place in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        join(caller)
    assert threads.collector.drain(until=1.0)
    threads.end()
    for sink, requests in zip(sinks, given, strict=True):
        assert {whose for whose, _ in sink.outcomes} == set(requests)
        assert len(sink.outcomes) == len(requests) == 2500
    snapshot = threads.collector.snapshot()
    assert snapshot.accepted == snapshot.ok + snapshot.cancelled == 10_000
    assert (snapshot.waiting, snapshot.running, snapshot.waiting_tokens) == (0, 0, 0)


def test_outcomes_are_delivered_outside_the_lock() -> None:
    class Curious:
        """Asks the collector how it is, which would block for ever under its lock."""

        def __init__(self) -> None:
            self.seen: list[int] = []

        def deliver(self, settled: object) -> None:
            self.seen.append(bench.collector.snapshot().running)

    bench, sink = Bench(Limits(max_batch_size=1)), Curious()
    requests = [Request(None, 1, 0.0, deadline, sink) for deadline in (9.0, 9.0, 9.0, 0.0)]
    bench.collector.submit(requests)
    bench.collector.settle(bench.take(), ["a"])
    bench.collector.withdraw(requests[1:2], Cancelled("gone"))
    bench.collector.settle(bench.take(), ["b"])
    with pytest.raises(OutOfEvents):
        bench.take()
    bench.submit()
    last: BatcherError = Draining("closed", 1.0)
    bench.collector.close(last)
    assert len(sink.seen) == 4


# The batch that follows the one which runs


def pipelined() -> tuple[Bench, Batch]:
    """A replica that is known to take 10 ms and 1 ms a request, to hand over in 1 ms, and that runs
    four; of callers that do not come back."""
    bench = Bench(Limits(max_batch_size=4))
    profile = [(size, size, 0.010 + 0.001 * size) for size in (1, 4, 16)]
    bench.collector.replica_up(0, RunnerInfo.from_facts({"profile": profile}))
    bench.collector._schedule.handoff = 0.001
    bench.collector._schedule._regroup.pays = False
    bench.submit(1, 1, 1, 1)
    return bench, bench.take()


def test_the_next_batch_is_asked_for_at_the_time_it_names() -> None:
    bench, running = pipelined()
    waiting = bench.submit(1, 1)
    due = bench.collector.next_batch_early(running)
    assert isinstance(due, float)
    bench.clock.step(due)
    latest = bench.collector.next_batch_early(running)
    assert latest == pytest.approx(0.013)
    bench.clock.step(latest)
    ahead = bench.collector.next_batch_early(running)
    assert isinstance(ahead, Batch)
    assert list(ahead.requests) == waiting
    assert bench.counts() == {"accepted": 6, "running": 6}
    bench.collector.settle(running, "abcd", 0.014)
    bench.collector.settle(ahead, "ef", 0.012)
    assert bench.counts() == {"accepted": 6, "ok": 6}
    # It waited behind the other: that says nothing of what a hand-over takes.
    assert bench.collector.snapshot().handoff == pytest.approx(0.001, rel=0.2)


def test_there_is_none_if_nobody_waits_by_then() -> None:
    bench, running = pipelined()
    bench.clock.step(0.013)
    assert bench.collector.next_batch_early(running) is None


def test_there_is_none_behind_requests_that_a_worker_was_lost_with() -> None:
    bench, running = pipelined()
    bench.collector.requeue(running, lost=True)
    again = bench.take()
    bench.submit(1, 1, 1, 1)
    bench.clock.step(0.0135)
    assert bench.collector.next_batch_early(again) is None


def test_there_is_none_of_a_replica_that_is_down_or_an_engine_that_is_closed() -> None:
    bench, running = pipelined()
    bench.submit(1, 1, 1, 1)
    bench.clock.step(0.0135)
    bench.collector.replica_down(0, "signal 9")
    assert bench.collector.next_batch_early(running) is None
    bench.collector.replica_up(0, RunnerInfo())
    bench.collector.close(Draining("closed", 1.0))
    assert bench.collector.next_batch_early(running) is None


def test_there_is_none_where_a_canary_is_due_which_a_stream_of_failures_must_not_put_off() -> None:
    bench, running = pipelined()
    bench.submit(1, 1, 1, 1)
    bench.clock.step(0.0135)
    bench.collector._supervision.replicas[0].canary_began(0.0)
    bench.collector.set_canary_interval(0.0135)
    assert bench.collector.next_batch_early(running) is None
    bench.collector.fail(running, RunnerFailed("odd"))
    assert bench.take().reason == "canary"


def test_who_is_late_is_told_when_the_next_batch_is_cut() -> None:
    bench, running = pipelined()
    (late,) = bench.submit(1, patience=0.0265)
    fine = bench.submit(1, 1, 1)
    bench.clock.step(0.0135)
    ahead = bench.collector.next_batch_early(running)
    assert isinstance(ahead, Batch)
    assert list(ahead.requests) == fine
    assert isinstance(bench.outcome(late), DeadlineExceeded)


def test_work_is_for_the_free_replica_that_would_do_it_first() -> None:
    bench = Bench(replicas=2)
    for replica, fixed in enumerate((0.100, 0.010)):
        profile = [(size, size, fixed + 0.001 * size) for size in (1, 4, 16)]
        bench.collector._schedule.replicas[replica].came_up(profile)
    called = []
    for replica, call in enumerate(bench.collector._monitor.wakeups):
        call.notify = lambda n=1, replica=replica: called.append(replica)  # type: ignore[method-assign, misc]
    bench.collector._monitor.free = {0, 1}
    bench.submit(1)
    assert called == [1]


def test_a_batch_of_a_runner_without_padding_has_the_tokens_that_it_runs() -> None:
    bench = Bench()
    bench.collector.replica_up(0, RunnerInfo(padding_free=True))
    bench.submit(2, 3, 40)
    batch = bench.take()
    assert (batch.tokens, batch.useful_tokens) == (45, 45)
    bench.collector.settle(batch, "abc", 0.01)
    assert bench.collector.recent_batches()[0].padding_ratio == 0.0


def test_a_replica_that_is_far_slower_than_another_is_tried_more_often_until_it_recovers() -> None:
    bench = Bench(replicas=2)
    for replica, fixed in enumerate((0.100, 0.010)):
        profile = [(size, size, fixed + 0.001 * size) for size in (1, 4, 16)]
        bench.collector._schedule.replicas[replica].came_up(profile)
    slow, _ = replicas = bench.collector._schedule.replicas
    bench.collector.set_canary_interval(120.0)
    bench.collector.settle(bench.take(0), (), 0.101)  # the first run of each is a canary
    bench.collector.settle(bench.take(1), (), 0.011)
    canaries = 0
    while bench.clock.now() < 100.0 and dispatch.is_slow(slow, replicas):
        bench.collector.settle(bench.take(0), (), 0.011)
        canaries += 1
        assert bench.clock.now() == pytest.approx(2.0 * canaries)
    assert canaries <= 6


def test_a_call_that_a_replica_gets_as_it_goes_down_is_passed_on() -> None:
    looks = Signal("the other replica did not look")

    class Clock(FakeClock):
        def wait(self, condition: threading.Condition, until: float | None) -> None:
            if condition is collector._monitor.wakeups[1]:
                looks.give()
                super().wait(condition, until)
                return
            condition.release()  # between the end of the wait and taking the lock again
            collector.replica_down(0, "signal 9")
            looks.wait()  # it has seen that nothing waits, and waits again
            collector.submit([request(sink)])
            condition.acquire()

    collector, sink = Collector(Limits(), Clock(), 2), RecordingSink()
    for replica in range(2):
        collector.replica_up(replica, RunnerInfo())
    taken: list[Batch | None] = []
    other = threading.Thread(target=lambda: taken.append(collector.next_batch(1)), name="other")
    other.start()
    looks.wait()
    assert collector.next_batch(0) is None
    join(other)
    (batch,) = taken
    assert batch is not None
    assert batch.replica == 1
