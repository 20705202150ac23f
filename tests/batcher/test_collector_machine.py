"""The collector under everything that callers, workers and operators can do, in any order.

A plain list stands beside it as the model. Replicas behave as batching threads do: an idle one
sits in next_batch, so what is due is taken at the instant it is due, before anything else happens.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from batcher.request import Answer, Batch, Request
from tests.batcher.conftest import examples
from tests.fakes import OutOfEvents, RecordingSink, VirtualClock, request

TICK = 1 / 1024
FOREVER = float("inf")

limits_of_all_kinds = st.builds(
    Limits,
    max_batch_size=st.integers(1, 5),
    max_batch_tokens=st.integers(1, 60),
    max_wait=st.sampled_from([0, 0, 4, 16]).map(lambda ticks: ticks * TICK),
    max_queue_size=st.integers(1, 12),
)
work = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([1, 6, 40, None, None])), min_size=1, max_size=6
)
pick = st.integers(0, 1000)  # of whatever there is


class CollectorMachine(RuleBasedStateMachine):
    @initialize(limits=limits_of_all_kinds, replicas=st.integers(1, 3))
    def begin(self, limits: Limits, replicas: int) -> None:
        self.limits = limits
        self.clock = VirtualClock(horizon=0.0)
        self.collector = Collector(limits, self.clock, replicas)
        self.sink = RecordingSink()
        self.waiting: list[Request] = []  # oldest first
        self.running: dict[int, Batch] = {}  # by replica: what runs now
        self.parts: dict[int, list[Batch]] = {each: [] for each in range(replicas)}  # and then
        self.broken: set[int] = set()
        self.withdrawn: set[Request] = set()  # while they ran
        self.condemned: Counter[int] = Counter()  # by replica, since a run there went well
        self.names = itertools.count()  # nobody else's fault keeps one out
        self.losses: Counter[Request] = Counter()  # of workers, with it aboard
        self.expected: dict[Request, str] = {}  # the outcome that each has had
        self.accepted: list[Request] = []
        self.refused: Counter[str] = Counter()
        self.up: set[int] = set()
        self.phase = "open"
        for replica in range(replicas):
            self.collector.replica_up(replica, {})
            self.up.add(replica)
        self.replicas = range(replicas)

    # What happens from outside

    @rule(work=work)
    def submit(self, work: list[tuple[int, int | None]]) -> None:
        now = self.clock.now()
        requests = [
            request(
                self.sink,
                payload=next(self.names),
                cost=cost,
                arrival=now,
                deadline=FOREVER if ticks is None else now + ticks * TICK,
            )
            for cost, ticks in work
        ]
        refusal = self._refusal(len(requests))
        if refusal is None:
            self.collector.submit(requests)
            self.accepted += requests
            self.waiting += requests
            self._take_what_is_due()
            return
        before = self.collector.snapshot()
        with pytest.raises(refusal):
            self.collector.submit(requests)
        self.refused[refusal.__name__] += len(requests)
        after = self.collector.snapshot()
        assert (after.accepted, after.waiting, after.waiting_tokens, after.running) == (
            before.accepted,
            before.waiting,
            before.waiting_tokens,
            before.running,
        )

    def _refusal(self, asked: int) -> type[BatcherError] | None:
        if self.phase != "open":
            return Draining
        if len(self.broken) == len(self.replicas):
            return NotReady
        return Overloaded if len(self.waiting) + asked > self.limits.max_queue_size else None

    @rule(ticks=st.sampled_from([1, 2, 3, 5, 8, 30]))
    def advance(self, ticks: int) -> None:
        self.clock.horizon = self.clock.now() + ticks * TICK
        self._take_what_is_due()
        if self.clock.now() < self.clock.horizon:  # nobody was idle to wait it out
            with pytest.raises(OutOfEvents):
                self.clock.step()
        self._take_what_is_due()

    @precondition(lambda self: self.accepted)
    @rule(which=st.sets(pick, min_size=1, max_size=4), expiry=st.booleans())
    def withdraw(self, which: set[int], expiry: bool) -> None:
        requests = list({self.accepted[place % len(self.accepted)]: None for place in which})
        why = DeadlineExceeded("late") if expiry else Cancelled("gone")
        self.collector.withdraw(requests, why)
        for each in requests:
            if each in self.expected:
                continue  # it had its outcome: nothing changes
            if each in self.waiting:
                self.waiting.remove(each)
            else:
                self.withdrawn.add(each)
            self._expect(each, "expired" if expiry else "cancelled")
        self._take_what_is_due()

    # What batching threads do

    @precondition(lambda self: self.running)
    @rule(which=pick)
    def finish(self, which: int) -> None:
        batch = self._batch(which)
        batch.settle([f"result of {id(each)}" for each in batch.requests], inference=TICK)
        self._settled(batch, dict.fromkeys(batch.requests, "ok"))

    @precondition(lambda self: self.running)
    @rule(which=pick, places=st.sets(pick, min_size=1, max_size=3), ours=st.booleans())
    def fail_some(self, which: int, places: set[int], ours: bool) -> None:
        batch = self._batch(which)
        results: list[Any] = [f"result of {id(each)}" for each in batch.requests]
        kinds = dict.fromkeys(batch.requests, "ok")
        for place in places:
            place %= batch.size
            results[place] = RunnerFailed("bad") if ours else ValueError("bad")
            kinds[batch.requests[place]] = "failed"
        batch.settle(results, inference=TICK)
        self._settled(batch, kinds)

    @precondition(lambda self: self.running)
    @rule(which=pick)
    def fail_all(self, which: int) -> None:
        batch = self._batch(which)
        batch.fail(RunnerFailed("no memory"))
        self._settled(batch, dict.fromkeys(batch.requests, "failed"))

    @precondition(lambda self: self.running)
    @rule(which=pick, out_of_memory=st.booleans())
    def run_in_halves(self, which: int, out_of_memory: bool) -> None:
        replica = sorted(self.running)[which % len(self.running)]
        batch = self.running.pop(replica)
        live = self._still_wanted(batch)
        halves = batch.halve(out_of_memory)
        assert [each for half in halves for each in half.requests] == live
        assert all(half.reason == "split" for half in halves)
        assert len(halves) == min(2, len(live))
        if len(halves) == 2:
            assert 0 <= halves[0].size - halves[1].size <= 1
        self.parts[replica] = [*halves, *self.parts[replica]]
        self._run_next_part(replica)
        self._take_what_is_due()

    @precondition(lambda self: self.up)
    @rule(which=pick)
    def worker_is_lost(self, which: int) -> None:
        """Its death is told first; then what it ran, and what it would have run next, goes back."""
        replica = sorted(self.up)[which % len(self.up)]
        self.collector.replica_down(replica, "signal 9")
        self.up.remove(replica)
        back: list[Request] = []
        for part in reversed(self.parts[replica]):
            back = [*self._still_wanted(part), *back]
            assert part.requeue(lost=False) == 0
        self.parts[replica] = []
        if replica in self.running:
            batch = self.running.pop(replica)
            condemned = [each for each in self._still_wanted(batch) if self._lose(each, replica)]
            for each in condemned:
                assert batch.size == 1, "an innocent was condemned"
                self._expect(each, "failed")
            wanted = [each for each in self._still_wanted(batch) if each not in condemned]
            back = [*wanted, *back]
            assert batch.requeue(lost=True) == len(condemned)
        self.waiting = [*back, *self.waiting]
        if self.phase != "closed":
            assert self.collector.next_batch(replica) is None
        self._take_what_is_due()

    def _lose(self, each: Request, replica: int) -> bool:
        """Is this one worker too many? Not if nothing goes well there, whoever is aboard."""
        if self.losses[each] == 2 and self.condemned[replica] == 2:
            return False
        self.losses[each] += 1
        self.condemned[replica] += self.losses[each] == 3
        return self.losses[each] == 3

    @precondition(lambda self: len(self.up) < len(self.replicas))
    @rule(which=pick, is_broken=st.booleans())
    def worker_does_not_start(self, which: int, is_broken: bool) -> None:
        down = sorted(set(self.replicas) - self.up)
        replica = down[which % len(down)]
        self.collector.replica_waits(replica, 1.0, "no weights", is_broken)
        if is_broken:
            self.broken.add(replica)
        if len(self.broken) == len(self.replicas):
            for each in self.waiting:
                self._expect(each, "failed")
            self.waiting = []

    @precondition(lambda self: len(self.up) < len(self.replicas))
    @rule(which=pick)
    def worker_comes_back(self, which: int) -> None:
        down = sorted(set(self.replicas) - self.up)
        replica = down[which % len(down)]
        self.collector.replica_up(replica, {"life": len(self.accepted)})
        self.up.add(replica)
        self.broken.discard(replica)
        self._take_what_is_due()

    # What the operator does

    @precondition(lambda self: len(self.accepted) > 8)
    @rule()
    def drain(self) -> None:
        """Without waiting: the machine goes on and serves what is left."""
        all_done = self.collector.drain(until=self.clock.now())
        assert all_done == (not self.waiting and not self._answerable())
        self.phase = "draining" if self.phase == "open" else self.phase
        self._take_what_is_due()

    @precondition(lambda self: len(self.accepted) > 8)
    @rule()
    def close(self) -> None:
        self.collector.close(Draining("closed", 1.0))
        self.phase = "closed"
        for each in self.waiting:
            self._expect(each, "failed")
        self.waiting = []
        self._take_what_is_due()

    # The model

    def _still_wanted(self, batch: Batch) -> list[Request]:
        """And the others are told, if nobody has done that yet."""
        wanted = []
        for each in batch.requests:
            if each in self.expected:
                continue
            if each.deadline <= self.clock.now():
                self._expect(each, "expired")
            elif self.phase == "closed":
                self._expect(each, "failed")
            else:
                wanted.append(each)
        return wanted

    def _run_next_part(self, replica: int) -> None:
        if self.parts[replica]:
            self.running[replica] = self.parts[replica].pop(0)

    def _batch(self, which: int) -> Batch:
        replica = sorted(self.running)[which % len(self.running)]
        return self.running.pop(replica)

    def _settled(self, batch: Batch, kinds: dict[Request, str]) -> None:
        if "ok" in kinds.values():
            self.condemned[batch.replica] = 0
        for each, kind in kinds.items():
            if each not in self.withdrawn:
                self._expect(each, kind)
        with pytest.raises(AssertionError, match="ended twice"):
            batch.fail(RunnerFailed("again"))
        self._run_next_part(batch.replica)
        self._take_what_is_due()

    def _expect(self, whose: Request, kind: str) -> None:
        assert whose not in self.expected, "the model itself is wrong"
        self.expected[whose] = kind

    def _answerable(self) -> list[Request]:
        return [
            each
            for batch in [*self.running.values(), *itertools.chain(*self.parts.values())]
            for each in batch.requests
            if each not in self.expected
        ]

    def _idle(self) -> list[int]:
        return [replica for replica in sorted(self.up) if replica not in self.running]

    def _finished(self) -> bool:
        if self.phase == "open":
            return False
        return self.phase == "closed" or not (self.waiting or self._answerable())

    def _take_what_is_due(self) -> None:
        """Idle replicas take batches until none is due, or time is at the horizon."""
        while idle := self._idle():
            if self._finished():
                assert all(self.collector.next_batch(replica) is None for replica in idle)
                return
            try:
                batch = self.collector.next_batch(idle[0])
            except OutOfEvents:
                self._expire_what_was_dropped()
                return
            assert batch is None or batch.replica == idle[0]
            dropped = self._expire_what_was_dropped()
            if batch is None:
                assert self._finished()
                return
            self._check(batch, dropped)
            self.running[batch.replica] = batch
            del self.waiting[: batch.size]

    def _is_known_full(self, batch: Batch) -> bool:
        """One more, however short, would have gone over what the memory is known to hold."""
        longest = max(each.cost for each in batch.requests)
        ceiling = self.collector._replicas[batch.replica].device.ceiling
        return not ceiling.allows(batch.size + 1, (batch.size + 1) * longest)

    def _expire_what_was_dropped(self) -> list[Request]:
        """Whoever was dropped from the queue had to be late; each is told so at that moment."""
        answered = {whose for whose, _ in self.sink.outcomes}
        dropped = [each for each in self.waiting if each in answered]
        for each in dropped:
            assert each.deadline <= self.clock.now()
            self.waiting.remove(each)
            self._expect(each, "expired")
        return dropped

    def _check(self, batch: Batch, dropped: list[Request]) -> None:
        now, limits = self.clock.now(), self.limits
        assert batch.closed == now
        # First in, first out: it is the oldest of what waits, and nothing in it is late.
        assert list(batch.requests) == self.waiting[: batch.size]
        assert all(each.deadline > now for each in batch.requests)
        # Within the limits, but for one that is too long for any batch.
        assert 1 <= batch.size <= limits.max_batch_size
        assert batch.tokens <= limits.max_batch_tokens or batch.size == 1
        # Never with those who have lost another number of workers, and from the second on alone.
        losses = {self.losses[each] for each in batch.requests}
        assert len(losses) == 1
        assert batch.size == 1 or losses != {2}
        # As large as it could be.
        left = self.waiting[batch.size : batch.size + 1]
        longer = [*batch.requests, *left]
        padded = len(longer) * max(each.cost for each in longer)
        full = batch.size == limits.max_batch_size
        ceiling = self.collector._replicas[batch.replica].device.ceiling
        too_large = not ceiling.allows(len(longer), padded)
        other_kind = any(self.losses[each] not in losses or losses == {2} for each in left)
        assert not left or full or padded > limits.max_batch_tokens or too_large or other_kind
        assert batch.size == 1 or ceiling.allows(batch.size, batch.tokens)
        # Not before its time.
        no_room = (batch.size + 1) * max(each.cost for each in batch.requests)
        # Those who are late still count when it is asked whether a batch is due: one may have made
        # it full, or been the one whose wait was up, and be dropped at this very moment.
        waited = now - batch.requests[0].arrival
        reasons = {
            "full": full,
            "tokens": padded > limits.max_batch_tokens or no_room > limits.max_batch_tokens,
            "idle": limits.max_wait == 0,
            "max_wait": limits.max_wait > 0
            and (waited >= limits.max_wait or bool(dropped) or self._is_known_full(batch)),
            "drain": self.phase == "draining",
            "memory": too_large,
            "retry": losses != {0},
        }
        assert reasons[batch.reason], batch.reason

    # What is true after every step

    @invariant()
    def every_request_has_the_outcome_it_should_and_only_that(self) -> None:
        given = Counter(whose for whose, _ in self.sink.outcomes)
        assert set(given) == set(self.expected)
        assert set(given.values()) <= {1}

    @invariant()
    def what_was_accepted_is_what_became_of_it(self) -> None:
        snapshot = self.collector.snapshot()
        counts = Counter(self.expected.values())
        assert snapshot.accepted == len(self.accepted)
        assert snapshot.refused == self.refused
        assert {kind: getattr(snapshot, kind) for kind in counts} == dict(counts)
        assert snapshot.waiting == len(self.waiting)
        assert snapshot.waiting_tokens == sum(each.cost for each in self.waiting)
        assert snapshot.running == len(self._answerable())
        assert snapshot.accepted == (
            snapshot.ok
            + snapshot.failed
            + snapshot.expired
            + snapshot.cancelled
            + snapshot.waiting
            + snapshot.running
        )
        assert [replica.busy for replica in snapshot.replicas] == [
            replica in self.running for replica in self.replicas
        ]
        assert snapshot.phase == self.phase

    @invariant()
    def nobody_waits_beyond_max_wait_for_a_replica_that_is_free(self) -> None:
        if self._idle() and not self._finished() and self.waiting:
            assert self.limits.max_wait > 0
            assert not self.losses[self.waiting[0]]
            assert self.phase == "open"
            assert self.clock.now() - self.waiting[0].arrival < self.limits.max_wait

    def teardown(self) -> None:
        """In the end, whatever happened, everybody has been answered."""
        if not hasattr(self, "collector"):
            return
        self.collector.close(Draining("closed", 1.0))
        self.phase = "closed"
        for each in self.waiting:
            self._expect(each, "failed")
        self.waiting = []
        while self.running:
            self.finish(0)
        self.every_request_has_the_outcome_it_should_and_only_that()
        self.what_was_accepted_is_what_became_of_it()
        assert set(self.expected) == set(self.accepted)
        for whose, outcome in self.sink.outcomes:
            if isinstance(outcome, Answer):
                assert outcome.value == f"result of {id(whose)}"


TestCollectorMachine = CollectorMachine.TestCase
TestCollectorMachine.settings = examples(100, stateful_step_count=40)
