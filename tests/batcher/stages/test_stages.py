"""The way of an input through the stages: driven by hand, with neither threads nor processes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from batcher.errors import (
    BadInput,
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    Overloaded,
    RunnerFailed,
)
from batcher.limits import Limits
from batcher.request import Answer, Batch, Request
from batcher.runner import RunnerInfo
from batcher.snapshot import Snapshot
from batcher.stages.collector import StageCollector
from batcher.stages.stages import Stages
from tests.fakes import FakeClock, RecordingSink, request

DEADLINE = 130.0


class Bench:
    def __init__(
        self, *, pre: bool = True, post: bool = True, size: int = 2, **limits: Any
    ) -> None:
        self.clock = FakeClock(100.0)
        self.device = StageCollector(Limits(max_batch_size=size, **limits), self.clock)
        self.cpu = StageCollector(Limits(max_batch_size=1, **limits), self.clock, replicas=2)
        self.stages = Stages(self.device, self.cpu)
        for collector, replicas in ((self.device, 1), (self.cpu, 2)):
            for replica in range(replicas):
                collector.replica_up(replica, RunnerInfo())
        self.stages.open(pre, post)
        self.sink = RecordingSink()

    def submit(self, payload: Any = "a", **fields: Any) -> Request:
        fields.setdefault("deadline", DEADLINE)
        made = request(self.sink, payload=payload, arrival=self.clock.now(), **fields)
        self.stages.submit([made])
        return made

    def due(self, collector: StageCollector) -> list[int]:
        """The replicas that would take something now."""
        now = self.clock.now()
        replicas = range(len(collector.schedule.replicas))
        return [each for each in replicas if collector.schedule.due(each, now, False) <= now]

    def take(self, collector: StageCollector) -> Batch:
        [first, *_] = self.due(collector)
        batch = collector.next_batch(first)
        assert batch is not None
        return batch

    def prepare(self, *, cost: int = 1, seconds: float = 0.25) -> Batch:
        """One input, from `a` to `A`."""
        batch = self.take(self.cpu)
        [(stage, value)] = [each.payload for each in batch.requests]
        assert stage == "preprocess"
        self.cpu.settle(batch, [(value.upper(), cost)], seconds)
        return batch

    def predict(self, seconds: float = 0.5) -> Batch:
        """All that wait, from `A` to `A!`."""
        batch = self.take(self.device)
        self.device.settle(batch, [each.payload + "!" for each in batch.requests], seconds)
        return batch

    def finish(self) -> Batch:
        batch = self.take(self.cpu)
        [(stage, value)] = [each.payload for each in batch.requests]
        assert stage == "postprocess"
        self.cpu.settle(batch, [[value]], 0.125)
        return batch

    @property
    def outcomes(self) -> dict[Any, Any]:
        return {
            made.payload: outcome.value if isinstance(outcome, Answer) else outcome
            for made, outcome in self.sink.outcomes
        }

    def conserved(self) -> Snapshot:
        now = self.stages.snapshot()
        ended = now.ok + now.failed + now.expired + now.cancelled
        assert now.accepted == ended + now.waiting + now.running
        return now


def test_an_input_goes_through_the_stages_and_its_answer_says_how_long_each_took() -> None:
    bench = Bench()
    bench.submit("a")
    bench.prepare()
    bench.clock.advance(1.0)
    bench.predict()
    bench.finish()
    [(_, answer)] = bench.sink.outcomes
    assert isinstance(answer, Answer)
    assert answer.value == ["A!"]
    assert (answer.queue_wait, answer.batch.inference) == (1.0, 0.5)
    assert answer.stages == (("preprocess", 0.0, 0.25), ("postprocess", 0.0, 0.125))
    now = bench.conserved()
    assert (now.ok, now.running, now.waiting) == (1, 0, 0)
    assert {name: stage.ok for name, stage in now.stages.items()} == {
        "preprocess": 1,
        "predict": 1,
        "postprocess": 1,
    }


@pytest.mark.parametrize(("pre", "post"), [(True, False), (False, True)])
def test_a_stage_that_a_model_does_not_have_is_left_out(pre: bool, post: bool) -> None:
    bench = Bench(pre=pre, post=post)
    bench.submit("a")
    if pre:
        bench.prepare()
    bench.predict()
    if post:
        bench.finish()
    assert bench.outcomes == {"a": "A!" if pre else ["a!"]}


def test_without_stages_all_is_as_the_devices_collector_does_it() -> None:
    bench = Bench(pre=False, post=False)
    gone = bench.submit("a")
    bench.stages.withdraw([gone], Cancelled("gone"))
    bench.submit("b")
    bench.predict()
    assert bench.outcomes["b"] == "b!"
    assert bench.stages.snapshot().stages == {}


def test_inputs_of_all_callers_are_in_one_batch_with_the_cost_that_was_found() -> None:
    bench = Bench()
    for payload in "ab":
        bench.submit(payload)
        bench.prepare(cost=7)
    batch = bench.predict()
    assert [each.cost for each in batch.requests] == [7, 7]
    for _ in range(2):
        bench.finish()
    assert bench.outcomes == {"a": ["A!"], "b": ["B!"]}


def test_the_device_does_not_wait_for_callers_who_must_be_preprocessed_first() -> None:
    bench = Bench()
    for payload in "abc":
        bench.submit(payload)
        bench.prepare()
    bench.predict()
    assert bench.due(bench.device) == [0]


def test_an_error_at_any_stage_is_the_outcome_of_its_own_request() -> None:
    bench = Bench()
    for payload in ("at once", "later", "last", "good"):
        bench.submit(payload)
    bench.cpu.settle(bench.take(bench.cpu), [BadInput("no")], 0.1)
    for _ in range(3):
        bench.prepare()
    first = bench.take(bench.device)
    bench.device.settle(first, [RunnerFailed("broke"), "LAST!"], 0.1)
    bench.predict()
    bench.cpu.settle(bench.take(bench.cpu), [RunnerFailed("post broke")], 0.1)
    bench.finish()
    said = {payload: str(outcome) for payload, outcome in bench.outcomes.items()}
    assert said == {
        "at once": "no",
        "later": "broke",
        "last": "post broke",
        "good": "['GOOD!']",
    }
    now = bench.conserved()
    assert (now.ok, now.failed) == (1, 3)
    assert {name: stage.failed for name, stage in now.stages.items()} == {
        "preprocess": 1,
        "predict": 1,
        "postprocess": 1,
    }


@pytest.mark.parametrize("reached", range(6))
def test_a_caller_who_leaves_takes_the_input_along_wherever_it_is(reached: int) -> None:
    bench = Bench()
    leaving = bench.submit("a")
    bench.submit("b")
    batch: Batch | None = None
    if reached >= 1:
        batch = bench.take(bench.cpu)
    if reached >= 2:
        assert batch is not None
        bench.cpu.settle(batch, [("A", 1)], 0.1)
        bench.prepare()
    if reached >= 3:
        batch = bench.take(bench.device)
    if reached >= 4:
        assert batch is not None
        bench.device.settle(batch, ["A!", "B!"], 0.1)
    if reached >= 5:
        batch = bench.take(bench.cpu)
    bench.stages.withdraw([leaving], Cancelled("the caller has gone"))
    assert bench.conserved().cancelled == 1
    if batch is not None and reached in (1, 3, 5):
        collector = bench.device if reached == 3 else bench.cpu
        results = {1: [("A", 1)], 3: ["A!", "B!"], 5: [["A!"]]}[reached]
        collector.settle(batch, results, 0.1)
    if reached < 2:
        bench.prepare()
    if reached < 3:
        assert bench.predict().size == 1
    bench.finish()
    assert bench.outcomes == {"b": ["B!"]}
    assert not any(bench.due(collector) for collector in (bench.cpu, bench.device))
    assert (bench.conserved().ok, bench.conserved().running) == (1, 0)


def test_what_is_ready_and_not_taken_is_bounded_and_taking_it_lets_more_begin() -> None:
    bench = Bench(size=2)
    for payload in "abcdef":
        bench.submit(payload)
    for _ in range(4):
        bench.prepare()
    assert not bench.due(bench.cpu)
    assert bench.cpu.schedule.early_at(0, bench.clock.now(), False) == math.inf
    woken: list[bool] = []
    bench.cpu.wake = lambda: woken.append(True)  # type: ignore[method-assign]
    bench.take(bench.device)
    assert woken
    assert bench.due(bench.cpu)


def test_room_is_also_made_by_those_who_leave() -> None:
    bench = Bench(size=1)
    made = [bench.submit(payload) for payload in "abc"]
    for _ in range(2):
        bench.prepare()
    woken: list[bool] = []
    bench.cpu.wake = lambda: woken.append(True)  # type: ignore[method-assign]
    bench.stages.withdraw(made[:1], Cancelled("gone"))
    assert woken


def test_what_the_device_has_answered_is_finished_first_and_never_refused() -> None:
    bench = Bench(size=1, max_queue_size=3)
    for payload in "abc":
        bench.submit(payload)
    for _ in range(2):
        bench.prepare()
    bench.take(bench.device)
    bench.submit("d")
    bench.submit("e")  # three wait for the CPU now, as many as may
    with pytest.raises(Overloaded, match=r"^preprocess: 3 requests wait"):
        bench.submit("f")
    bench.device.settle(*_answered(bench.device), 0.1)
    assert bench.finish().requests[0].payload == ("postprocess", "A!")
    assert bench.outcomes == {"a": ["A!"]}


def _answered(collector: StageCollector) -> tuple[Batch, list[str]]:
    [batch] = collector._settlement.in_flight
    return batch, [each.payload + "!" for each in batch.requests]


def test_the_slowest_stage_decides_who_is_refused() -> None:
    bench = Bench(size=1)
    bench.submit("a")
    bench.prepare()
    bench.predict(seconds=10.0)
    bench.finish()
    made = [bench.submit(payload) for payload in "bc"]
    with pytest.raises(Overloaded, match=r"^predict: it is predicted to take 29.93"):
        bench.submit("d", deadline=129.0)
    assert bench.conserved().refused == {"Overloaded": 1}
    bench.stages.withdraw(made, Cancelled("gone"))
    bench.submit("e")  # an idle engine takes it, whatever it predicts


def test_what_comes_after_preprocessing_is_taken_off_its_time() -> None:
    bench = Bench(size=1)
    bench.submit("a")
    bench.prepare()
    bench.predict(seconds=4.0)
    bench.finish()
    for deadline, left in ((130.0, 130.0 - 4.0 - 0.125), (102.0, 101.0)):  # at the most half of it
        made = bench.submit("b", deadline=deadline)
        [waiting] = bench.cpu.schedule.pending
        assert waiting.deadline == pytest.approx(left, abs=0.1)
        bench.stages.withdraw([made], Cancelled("gone"))


def test_what_a_later_stage_has_no_time_for_is_late_and_not_refused() -> None:
    bench = Bench(size=1)
    bench.submit("a", deadline=101.0)
    batch = bench.take(bench.cpu)
    for _ in range(20):
        bench.device.schedule.replicas[0].cost.observe(1, 1, 10.0)
    bench.device.schedule.replicas[0].set_pace(1.0)
    bench.device.schedule.replicas[0].ran_at = 100.0
    bench.cpu.settle(batch, [("A", 1)], 0.1)
    assert isinstance(bench.outcomes["a"], DeadlineExceeded)
    assert bench.conserved().expired == 1


def test_equal_inputs_go_through_each_stage_once() -> None:
    bench = Bench()
    for caller in "xyz":
        bench.submit("a", key="a", caller=caller)
    bench.prepare()
    assert not bench.due(bench.cpu)
    assert bench.predict().size == 1
    bench.finish()
    assert not bench.due(bench.cpu)
    assert [outcome.value for _, outcome in bench.sink.outcomes] == [["A!"]] * 3  # type: ignore[union-attr]
    assert bench.conserved().ok == 3


def test_nothing_comes_in_before_the_stages_are_known_or_after_the_end_has_begun() -> None:
    bench = Bench()
    bench.stages._plan = ()
    with pytest.raises(NotReady):
        bench.submit()
    assert not bench.stages.snapshot().ready
    bench.stages.open(True, True)
    assert bench.stages.snapshot().ready
    assert bench.stages.drain(until=0.0)
    with pytest.raises(Draining):
        bench.submit()


def test_a_drain_lets_what_is_inside_go_through() -> None:
    bench = Bench()
    bench.submit("a")
    assert not bench.stages.drain(until=0.0)
    bench.prepare()
    bench.predict()
    bench.finish()
    assert bench.outcomes == {"a": ["A!"]}
    assert bench.stages.drain(until=0.0)


def test_the_end_is_the_outcome_of_what_is_left() -> None:
    bench = Bench()
    for payload in "ab":
        bench.submit(payload)
    batch = bench.take(bench.cpu)
    bench.stages.close()
    why: BatcherError = Draining("the service has shut down", 1.0)
    bench.device.close(why)
    bench.cpu.close(why)
    bench.cpu.settle(batch, [("A", 1)], 0.1)
    assert {type(outcome) for outcome in bench.outcomes.values()} == {Draining}
    assert bench.conserved().failed == 2
