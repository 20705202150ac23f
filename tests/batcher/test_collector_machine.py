"""The collector under everything that callers, workers and operators can do, in any order.

A plain list stands beside it as the model: it knows who waits, who shares whose row, who may be
dropped or refused and why a batch may close, and leaves to the policy only which of those that wait
go together. Replicas behave as batching threads do: an idle one sits in next_batch, so what is due
is taken at the instant it is due, before anything else happens.
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
    CallTooLarge,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NeverInTime,
    NotReady,
    Overloaded,
    PoisonRequest,
    RunnerFailed,
)
from batcher.limits import Limits
from batcher.request import FIRST_BULK, Answer, Batch, Request
from batcher.runner import RunnerInfo
from batcher.scheduling import dispatch
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.selection import MAX_SKIPPED
from tests.batcher.conftest import examples
from tests.fakes import OutOfEvents, RecordingSink, VirtualClock, payloads_of, request

TICK = 1 / 1024
FOREVER = float("inf")
SHARE = 8  # of the free places, to one caller
TOKENS_OF = {"x": 4, "y": 4, "z": 25}  # by key: equal inputs are equally long

limits_of_all_kinds = st.builds(
    Limits,
    max_batch_size=st.integers(1, 5),
    max_batch_tokens=st.integers(1, 90),
    max_wait=st.sampled_from([0, 0, 4, 16]).map(lambda ticks: ticks * TICK),
    max_queue_size=st.integers(1, 16),
    max_queue_tokens=st.sampled_from([60, 4096, 4096]),
)
# A device: ticks of a batch, of a row, of a token.
speeds = st.sampled_from([(1, 0, 0.0), (80, 2, 0.0), (2, 0, 0.25), (10, 1, 0.5)])
work = st.lists(st.one_of(st.integers(1, 30), st.sampled_from("xyz")), min_size=1, max_size=6)
pick = st.integers(0, 1000)  # of whatever there is


class CollectorMachine(RuleBasedStateMachine):
    @initialize(
        limits=limits_of_all_kinds,
        replicas=st.integers(1, 3),
        speed=speeds,
        is_known=st.booleans(),
    )
    def begin(
        self, limits: Limits, replicas: int, speed: tuple[int, int, float], is_known: bool
    ) -> None:
        self.limits = limits
        self.speed = speed
        self.clock = VirtualClock(horizon=0.0)
        self.collector = Collector(limits, self.clock, replicas)
        self.sink = RecordingSink()
        self.waiting: list[Request] = []  # oldest first
        self.left_behind: Counter[Request] = Counter()  # batches, while it was the oldest
        self.running: dict[int, Batch] = {}  # by replica: what runs now
        self.parts: dict[int, list[Batch]] = {each: [] for each in range(replicas)}  # and then
        self.rows: dict[Batch, list[list[Request]]] = {}  # who waits for which result
        self.broken: set[int] = set()
        self.condemned: Counter[int] = Counter()  # by replica, since a run there went well
        self.poison: set[str] = set()  # keys
        self.names = itertools.count()  # without a key: nobody else's fault keeps one out
        self.losses: Counter[Request] = Counter()  # of workers, with it aboard
        self.shared = 0
        self.last_ended: int | None = None  # the replica whose batch was answered last, and when
        self.ended_at = -FOREVER
        self.expected: dict[Request, str] = {}  # the outcome that each has had
        self.accepted: list[Request] = []
        self.refused: Counter[str] = Counter()
        self.up: set[int] = set()
        self.phase = "open"
        self.replicas = range(replicas)
        points = [
            (size, size * long, self._seconds(size, size * long))
            for size in (1, 4)
            for long in (1, 8, 30)
        ]
        for replica in self.replicas:
            self.collector.replica_up(
                replica, RunnerInfo(profile=tuple(points) if is_known else ())
            )
            self.up.add(replica)

    # What happens from outside

    @rule(
        work=work,
        ticks=st.sampled_from([1, 6, 40, 300, None, None]),
        priority=st.sampled_from([3, 3, 0, 6]),
        caller=st.sampled_from([None, None, "a", "b"]),
    )
    def submit(
        self, work: list[int | str], ticks: int | None, priority: int, caller: str | None
    ) -> None:
        now = self.clock.now()
        requests = [
            request(
                self.sink,
                payload=each if isinstance(each, str) else next(self.names),
                cost=TOKENS_OF[each] if isinstance(each, str) else each,
                arrival=now,
                deadline=FOREVER if ticks is None else now + ticks * TICK,
                priority=priority,
                caller=caller,
                key=each if isinstance(each, str) else None,
            )
            for each in work
        ]
        flying = self._in_flight()
        alone = [each for each in requests if each.key not in flying]
        refusal = self._refusal(requests, alone)
        before = self.collector.snapshot()
        refused: BatcherError | None = None
        try:
            self.collector.submit(requests)
        except BatcherError as error:
            refused = error
        if refused is not None:
            if isinstance(refused, NeverInTime):  # as below: only the collector can know
                assert refusal is None
                assert len(alone) > 1
                assert ticks is not None
                assert "even on an idle engine" in str(refused)
            elif refusal is None:  # the model leaves it to the collector to know who is too late
                assert "it is predicted to take" in str(refused)
                assert isinstance(refused, Overloaded)
                assert alone
                assert ticks is not None
                assert refused.retry_after > ticks * TICK
                now = self.clock.now()
                untried = any(self._device(each).may_test_prediction(now) for each in self.up)
                assert self.waiting or not untried, "only a run could have told"
            else:
                assert type(refused) is refusal
            self.refused[type(refused).__name__] += len(requests)
            after = self.collector.snapshot()
            assert (after.accepted, after.waiting, after.waiting_tokens, after.running) == (
                before.accepted,
                before.waiting,
                before.waiting_tokens,
                before.running,
            )
            return
        assert refusal is None, refusal
        self.accepted += requests
        self.waiting += alone
        for each in requests:
            if each.key in flying:
                batch, row = flying[each.key]
                self.rows[batch][row].append(each)
                self.shared += 1
        self._take_what_is_due()

    def _refusal(self, requests: list[Request], alone: list[Request]) -> type[BatcherError] | None:
        if self.phase != "open":
            return Draining
        if len(self.broken) == len(self.replicas):
            return NotReady
        if any(each.key in self.poison for each in requests):
            return PoisonRequest
        if not alone:
            return None
        of_call = sum(each.cost for each in alone)
        if len(alone) > 1 and (
            len(alone) > self.limits.max_queue_size or of_call > self.limits.max_queue_tokens
        ):
            return CallTooLarge
        free = self.limits.max_queue_size - len(self.waiting)
        tokens = self._tokens() + sum(each.cost for each in alone)
        caller = alone[0].caller
        held = sum(each.caller == caller for each in self.waiting) if caller else 0
        bulk = sum(each.priority >= FIRST_BULK for each in self.waiting)
        bulk_tokens = self._tokens(bulk_only=True) + sum(each.cost for each in alone)
        is_full = [
            len(alone) > free,
            self.waiting and tokens > self.limits.max_queue_tokens,
            alone[0].priority >= FIRST_BULK
            and bulk
            and (
                bulk + len(alone) > self.limits.max_queue_size // 2
                or bulk_tokens > self.limits.max_queue_tokens // 2
            ),
            held and held + len(alone) > SHARE * free,
        ]
        return Overloaded if any(is_full) else None

    @rule(ticks=st.sampled_from([1, 2, 3, 5, 8, 30, 120]))
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
            self._expect(each, "expired" if expiry else "cancelled")
        self._take_what_is_due()

    # What batching threads do

    @precondition(lambda self: self.running)
    @rule(which=pick)
    def finish(self, which: int) -> None:
        self._settle(self._batch(which), set())

    @precondition(lambda self: self.running)
    @rule(which=pick, places=st.sets(pick, min_size=1, max_size=3), ours=st.booleans())
    def fail_some(self, which: int, places: set[int], ours: bool) -> None:
        batch = self._batch(which)
        self._settle(batch, {place % batch.size for place in places}, ours)

    @precondition(lambda self: self.running)
    @rule(which=pick)
    def fail_all(self, which: int) -> None:
        batch = self._batch(which)
        self.collector.fail(batch, RunnerFailed("no memory"))
        self._settled(batch, set(range(batch.size)))

    @precondition(lambda self: self.running)
    @rule(which=pick, out_of_memory=st.booleans())
    def run_in_halves(self, which: int, out_of_memory: bool) -> None:
        replica = sorted(self.running)[which % len(self.running)]
        batch = self.running.pop(replica)
        live = self._still_wanted(self.rows.pop(batch))
        halves = self.collector.halve(batch, out_of_memory)
        for half in halves:
            self.rows[half] = [half.row(place) for place in range(half.size)]
        assert [row for half in halves for row in self.rows[half]] == live
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
        for part in reversed(self.parts[replica]):
            assert self._put_back(part, lost=False) == self.collector.requeue(part, lost=False) == 0
        self.parts[replica] = []
        if replica in self.running:
            batch = self.running.pop(replica)
            assert self._put_back(batch, lost=True) == self.collector.requeue(batch, lost=True)
        if self.phase != "closed":
            assert self.collector.next_batch(replica) is None
        self._take_what_is_due()

    def _put_back(self, batch: Batch, lost: bool) -> int:
        """Returns how many were poison."""
        back: list[Request] = []
        poison = 0
        for row in self._still_wanted(self.rows.pop(batch)):
            losses = max(self.losses[each] for each in row) + lost
            # Is this one worker too many? Not if nothing goes well there, whoever is aboard.
            if losses == 3 and self.condemned[batch.replica] < 2:
                assert batch.size == 1, "an innocent was condemned"
                self.condemned[batch.replica] += 1
                key = row[0].key
                alike = [each for each in self.waiting if key is not None and each.key == key]
                self.waiting = [each for each in self.waiting if each not in alike]
                if isinstance(key, str):
                    self.poison.add(key)
                for each in (*row, *alike):
                    self._expect(each, "failed")
                    poison += 1
            else:
                self.losses.update({each: min(losses, 2) - self.losses[each] for each in row})
                back += row
        self.waiting = [*back, *self.waiting]
        return poison

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
        self.collector.replica_up(replica, RunnerInfo.from_facts({"life": len(self.accepted)}))
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

    def _seconds(self, size: int, tokens: int) -> float:
        fixed, per_row, per_token = self.speed
        return (fixed + per_row * size + per_token * tokens) * TICK

    def _longest_prediction(self, replica: int, tokens: int) -> float:
        """Of any batch with so many padded tokens at most."""
        return self._device(replica).cost.predict(self.limits.max_batch_size, tokens)

    def _longest_company(self, replica: int) -> float:
        """How long it may wait for those it has just answered."""
        padding = 30 * self.limits.max_batch_size  # of one that is padded as badly as can be
        return 0.1 * self._longest_prediction(replica, max(self._most_tokens, padding)) + TICK / 64

    @property
    def _most_tokens(self) -> int:
        return max(self.limits.max_batch_tokens or 0, 30)

    def _device(self, replica: int) -> ReplicaModel:
        return self.collector._schedule.replicas[replica]

    def _still_wanted(self, rows: list[list[Request]]) -> list[list[Request]]:
        """And the others are told, if nobody has done that yet."""
        wanted = []
        for row in rows:
            left = []
            for each in row:
                if each in self.expected:
                    continue
                if each.deadline <= self.clock.now():
                    self._expect(each, "expired")
                elif self.phase == "closed":
                    self._expect(each, "failed")
                else:
                    left.append(each)
            if left:
                wanted.append(left)
        return wanted

    def _run_next_part(self, replica: int) -> None:
        if self.parts[replica]:
            self.running[replica] = self.parts[replica].pop(0)

    def _batch(self, which: int) -> Batch:
        replica = sorted(self.running)[which % len(self.running)]
        return self.running.pop(replica)

    def _settle(self, batch: Batch, failed: set[int], ours: bool = False) -> None:
        results: list[Any] = [f"result of {payload}" for payload in payloads_of(batch)]
        for place in failed:
            results[place] = RunnerFailed("bad") if ours else ValueError("bad")
        self.collector.settle(batch, results, self._seconds(batch.size, batch.tokens))
        self.last_ended, self.ended_at = batch.replica, self.clock.now()
        self._settled(batch, failed)

    def _settled(self, batch: Batch, failed: set[int]) -> None:
        if len(failed) < batch.size:
            self.condemned[batch.replica] = 0
        for place, row in enumerate(self.rows.pop(batch)):
            for each in row:
                if each not in self.expected:  # else its caller has gone
                    self._expect(each, "failed" if place in failed else "ok")
        with pytest.raises(AssertionError, match="ended twice"):
            self.collector.fail(batch, RunnerFailed("again"))
        self._run_next_part(batch.replica)
        self._take_what_is_due()

    def _expect(self, whose: Request, kind: str) -> None:
        assert whose not in self.expected, "the model itself is wrong"
        self.expected[whose] = kind

    def _answerable(self) -> list[Request]:
        return [
            each
            for row in itertools.chain(*self.rows.values())
            for each in row
            if each not in self.expected
        ]

    def _in_flight(self) -> dict[Any, tuple[Batch, int]]:
        """By key."""
        return {
            request.key: (batch, row)
            for batch in self.rows
            for row, request in enumerate(batch.requests)
            if request.key is not None
        }

    def _distinct(self) -> list[Request]:
        """Those that wait, one of each input in each lane."""
        by_input = {
            (each.priority >= FIRST_BULK, each.payload): each for each in reversed(self.waiting)
        }
        return list(by_input.values())

    def _tokens(self, bulk_only: bool = False) -> int:
        distinct = self._distinct()
        return sum(each.cost for each in distinct if each.priority >= FIRST_BULK or not bulk_only)

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
            handoff = self.collector.snapshot().handoff
            first = dispatch.soonest(
                idle, self.collector._schedule.replicas
            )  # as the collector calls them
            try:
                batch = self.collector.next_batch(first)
            except OutOfEvents:
                self._check_late(first, self._dropped(), handoff)
                return
            if batch is None:
                self._check_late(first, self._dropped(), handoff)
                assert self._finished()
                return
            assert batch.replica == first
            oldest = self.waiting[0]
            dropped = self._dropped()
            self._check_drops(batch, dropped, handoff)
            self._check(batch, oldest, dropped)
            self.running[batch.replica] = batch

    def _dropped(self) -> list[Request]:
        """Off the queue without a batch; each was told so at that moment."""
        answered = {whose for whose, _ in self.sink.outcomes}
        dropped = [each for each in self.waiting if each in answered]
        for each in dropped:
            self.waiting.remove(each)
            self._expect(each, "expired")
        return dropped

    def _check_drops(self, batch: Batch, dropped: list[Request], handoff: float) -> None:
        """Whoever cannot be in time does not run, unless nobody can and only a run could tell."""
        now, safe = self.clock.now(), 1.0 + self._device(batch.replica).cost.margin
        soonest = now + batch.predicted * safe + handoff
        self._check_late(batch.replica, dropped, handoff)
        if any(each.deadline < soonest for each in batch.requests):
            assert all(each.deadline <= now for each in dropped)
            latest = self._latest(batch.replica, handoff)
            assert all(each.deadline < latest for each in self.waiting)
        assert all(each.deadline > now for each in batch.requests)

    def _check_late(self, replica: int, dropped: list[Request], handoff: float) -> None:
        """None of them could be sure to be in time."""
        now, latest = self.clock.now(), self._latest(replica, handoff)
        assert all(each.deadline <= now or each.deadline < latest for each in dropped)

    def _latest(self, replica: int, handoff: float) -> float:
        """Whoever can wait until then can be in any batch cut now."""
        safe = 1.0 + self._device(replica).cost.margin
        longest = self._longest_prediction(replica, self._most_tokens)
        return self.clock.now() + longest * safe + handoff

    def _check(self, batch: Batch, oldest: Request, dropped: list[Request]) -> None:
        now, limits = self.clock.now(), self.limits
        assert batch.closed == now
        # Everybody in it waited, and one input is in it once, with all that wait for it.
        rows = [batch.row(place) for place in range(batch.size)]
        aboard = [each for row in rows for each in row]
        assert len(aboard) == len(set(aboard))
        assert set(aboard) <= set(self.waiting)
        first = self.waiting[0]
        self.waiting = [each for each in self.waiting if each not in aboard]
        left = self.waiting
        assert all(len({each.payload for each in row}) == 1 for row in rows)
        assert len(set(payloads_of(batch))) == batch.size
        assert not set(payloads_of(batch)) & {each.payload for each in left}
        # Within the limits, but for one that is too long for any batch.
        ceiling = self._device(batch.replica).memory_ceiling
        assert limits.max_batch_tokens is not None
        assert 1 <= batch.size <= limits.max_batch_size
        if batch.size > 1:
            assert batch.tokens <= limits.max_batch_tokens
            assert ceiling.allows(batch.size, batch.tokens)
        # Never with those who have lost another number of workers, and from the second on alone.
        losses = {max(self.losses[each] for each in row) for row in rows}
        assert len(losses) == 1
        assert batch.size == 1 or losses != {2}
        # Nobody is left behind for ever.
        if oldest in left:
            self.left_behind[oldest] += 1
            assert self.left_behind[oldest] <= MAX_SKIPPED
        # Not before its time, and as large as it could be.
        longest = max(each.cost for each in batch.requests)
        one_more = [
            (batch.size + 1) * max(longest, cost) for cost in (1, *(each.cost for each in left))
        ]
        memory = [each for each in one_more if not ceiling.allows(batch.size + 1, each)]
        # Those who are late still count when it is asked whether a batch is due: one may have made
        # it full, or been the one whose wait was up, and be dropped at this very moment.
        waited = now - oldest.arrival
        in_both_lanes = any(len({each.priority >= FIRST_BULK for each in row}) > 1 for row in rows)
        interactive = [each for each in batch.requests if each.priority < FIRST_BULK]
        reasons = {
            "share": len(self.up) > 1 and bool(left),
            "full": batch.size == limits.max_batch_size,
            "tokens": max(one_more) > limits.max_batch_tokens,
            "memory": bool(memory),
            "retry": losses != {0} or first in aboard or bool(dropped),
            "lengths": bool(left) and len({each.cost for each in (*left, *batch.requests)}) > 1,
            "deadline": bool(dropped),
            "lanes": bool(interactive) and any(each.priority >= FIRST_BULK for each in left),
            # Of what is left another replica takes its share.
            "drain": self.phase == "draining" and (not left or len(self.up) > 1),
            "idle": limits.max_wait == 0 and not left,
            "max_wait": limits.max_wait > 0
            and (waited >= limits.max_wait or bool(dropped) or bool(memory) or in_both_lanes)
            and not left,
            "regroup": self.last_ended == batch.replica
            and self.ended_at < now <= self.ended_at + self._longest_company(batch.replica)
            and not left,
        }
        assert reasons[batch.reason], batch.reason
        self.rows[batch] = [list(row) for row in rows]
        self.shared += len(aboard) - batch.size

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
        assert snapshot.waiting_tokens == self._tokens()
        assert snapshot.waiting_bulk == sum(each.priority >= FIRST_BULK for each in self.waiting)
        assert snapshot.shared == self.shared
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
    def whoever_has_the_same_input_waits_for_the_same_row(self) -> None:
        for batch, rows in self.rows.items():
            assert [batch.row(place) for place in range(batch.size)] == rows

    @invariant()
    def nobody_waits_for_a_replica_that_is_free_but_for_max_wait_and_company(self) -> None:
        idle = self._idle()
        if not idle or self._finished() or not self.waiting:
            return
        now, oldest = self.clock.now(), self.waiting[0]
        # It may be for another one that is expected to be sooner, or for those just answered.
        expected = [self._device(replica).free_at for replica in self.running]
        if expected and all(
            now < min(expected) + self._device(replica).pace.fixed for replica in idle
        ):
            return
        assert not self.losses[oldest]
        assert self.phase == "open"
        if now - oldest.arrival < self.limits.max_wait:
            return
        assert self.last_ended in idle
        most = 3.0 * self._device(self.last_ended).pace.full_batch  # one far slower is no help
        able = [each for each in idle if self._device(each).pace.full_batch <= most]
        assert able == [self.last_ended]
        assert now <= self.ended_at + self._longest_company(self.last_ended)

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
                assert outcome.value == f"result of {whose.payload}"


TestCollectorMachine = CollectorMachine.TestCase
TestCollectorMachine.settings = examples(100, stateful_step_count=40)


def test_no_run_tests_the_prediction_while_one_far_behind_would_be_in_time() -> None:
    state = CollectorMachine()
    limits = Limits(max_batch_size=1, max_batch_tokens=1, max_queue_size=5, max_queue_tokens=60)
    state.begin(limits=limits, replicas=1, speed=(80, 2, 0.0), is_known=True)
    state.advance(ticks=1)
    state.submit(caller=None, priority=3, ticks=340, work=[1] * 5)
    state.submit(caller=None, priority=3, ticks=None, work=[1])
    state.advance(ticks=300)  # in which nothing ends: now the others of the five are too late
    state.fail_all(which=0)
    state.teardown()
