"""Stages: the way of an input through preprocess, predict and postprocess.

Two collectors: `cpu`, whose batches are of one input, and `device`. Stages takes a caller's
requests and makes requests of its own of them, for one stage after the other. It is their sink:
what one stage answers is what the next one gets; the answer of the last, or any error on the way,
is the outcome of the caller's request. It has no thread and no event loop: whatever it does, it
does in the thread that brings an outcome.

Preprocessing starts on arrival, unless two batches for each replica are ready and not taken yet:
to work further ahead costs memory, and the work for callers who leave.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    Overloaded,
)
from batcher.monitor import hand_out
from batcher.request import CONTINUED, BatchReport, Outbox, Outcome, Request
from batcher.snapshot import Snapshot
from batcher.stages.collector import StageCollector
from batcher.stages.flights import STAGES, Flight, Flights, Stage

_READY_BATCHES = 2  # for each replica
_MOST_OF_THE_TIME = 0.5  # that is left: what comes after the first stage is not given more
_RETRY_AFTER = 1.0


class Stages:
    def __init__(self, device: StageCollector, cpu: StageCollector) -> None:
        self.clock, self.limits = device.clock, device.limits
        self._device = device
        self._cpu = cpu
        self._most_ready = (
            _READY_BATCHES * device.limits.max_batch_size * len(device.schedule.replicas)
        )
        self._plan: tuple[Stage, ...] = ()  # empty: not known yet
        self._lock = threading.Lock()
        self._changed = self.clock.condition(self._lock)
        self._flights = Flights()
        self._phase = "open"  # then draining, then closed
        cpu.schedule.may_begin = self._may_begin
        device.on_release(self._has_room)

    def open(self, preprocess: bool, postprocess: bool) -> None:
        """Which stages there are beside the device's. Once, when their processes are up."""
        wanted = {"preprocess": preprocess, "predict": True, "postprocess": postprocess}
        self._plan = tuple(stage for stage in STAGES if wanted[stage])
        if preprocess:
            self._device.schedule.never_regroup()

    # Entrance: what callers do

    def submit(self, requests: Sequence[Request]) -> None:
        """See Collector.submit. Admission looks at each stage: the slowest decides."""
        if len(self._plan) == 1:
            self._device.submit(requests)
            return
        error: BatcherError | None = None
        flights: list[Flight] = []
        with self._lock:
            now = self.clock.now()
            error = self._refusal(requests, now)
            if error is None:
                flights = [Flight(request, self._plan[0]) for request in requests]
                for flight in flights:
                    self._flights.begin(flight)
            else:
                self._flights.refused[type(error).__name__] += len(requests)
        if error is not None:
            raise error
        inners = [self._inner(flight, flight.request.payload, now) for flight in flights]
        try:
            self._collector_of(self._plan[0]).submit(inners)
        except BatcherError as refused:
            with self._lock:
                for flight in flights:
                    self._flights.take_back(flight, refused)
            if isinstance(refused, Overloaded):
                raise Overloaded(f"{self._plan[0]}: {refused}", refused.retry_after) from None
            raise
        stage = self._plan[0]
        sent = [(flight, stage, inner) for flight, inner in zip(flights, inners, strict=True)]
        self._arrived(sent)

    def withdraw(self, requests: Sequence[Request], why: BatcherError) -> None:
        """See Collector.withdraw."""
        if len(self._plan) == 1:
            self._device.withdraw(requests, why)
            return
        inside: dict[Stage, list[Request]] = defaultdict(list)
        with self._lock:
            for request in requests:
                flight = self._flights.by_request.get(request)
                if flight is not None:
                    if flight.inner is not None:
                        inside[flight.stage].append(flight.inner)
                    self._flights.end(flight, why)
            self._notify_if_empty()
        for stage, inners in inside.items():
            self._collector_of(stage).withdraw(inners, why)

    def snapshot(self) -> Snapshot:
        snapshot, cpu = self._device.snapshot(), self._cpu.snapshot()
        if not self._plan:
            return replace(snapshot, waits_for_stages=True)
        if len(self._plan) == 1:
            return snapshot
        with self._lock:
            flights = self._flights
            waiting = min(len(flights), snapshot.waiting + cpu.waiting)
            return replace(
                snapshot,
                phase=self._phase,
                accepted=flights.accepted,
                ok=flights.ok,
                failed=flights.failed,
                expired=flights.expired,
                cancelled=flights.cancelled,
                refused=dict(flights.refused),
                retried=snapshot.retried + cpu.retried,
                poison=snapshot.poison + cpu.poison,
                waiting=waiting,
                running=len(flights) - waiting,
                stages={stage: flights.tallies[stage].snapshot() for stage in self._plan},
                cpu_workers=cpu.replicas,
            )

    def recent_batches(self) -> list[BatchReport]:
        """Those of the device."""
        return self._device.recent_batches()

    def drain(self, until: float) -> bool:
        """Refuses new work; waits until all that was accepted has its outcome: by `until`?"""
        with self._lock:
            if self._phase == "open":
                self._phase = "draining"
            while len(self._flights) and (left := until - self.clock.now()) > 0:
                self._changed.wait(left)
            return not len(self._flights)

    def close(self) -> None:
        """The collectors, which are closed next, end what is left."""
        with self._lock:
            self._phase = "closed"

    # Sink: what the stages answer

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        outcomes: Outbox = defaultdict(list)
        onward: list[tuple[Flight, Any]] = []
        with self._lock:
            for inner, outcome in settled:
                flight: Flight = inner.reply_to  # type: ignore[assignment]  # _inner made it
                if flight.is_over:  # its caller has gone
                    continue
                if isinstance(outcome, BatcherError):
                    self._end(flight, outcome, outcomes)
                    continue
                flight.ran(outcome)
                self._flights.tallies[flight.stage].ran(outcome)
                place = self._plan.index(flight.stage) + 1
                if place == len(self._plan):
                    self._end(flight, flight.answer(outcome.value), outcomes)
                else:
                    self._flights.move(flight, self._plan[place])
                    onward.append((flight, outcome.value))
            self._notify_if_empty()
        hand_out(outcomes)
        if onward:
            self._pass_on(onward)

    def _pass_on(self, onward: Sequence[tuple[Flight, Any]]) -> None:
        """To the stage that each is in now."""
        now = self.clock.now()
        sent: list[tuple[Flight, Stage, Request]] = []
        failed: list[tuple[Flight, BatcherError]] = []
        for flight, value in onward:
            stage, inner = flight.stage, self._inner(flight, value, now)
            try:
                self._collector_of(stage).submit([inner])
            except BatcherError as error:
                failed.append((flight, _after_acceptance(error)))
            else:
                sent.append((flight, stage, inner))
        self._arrived(sent)
        if failed:
            outcomes: Outbox = defaultdict(list)
            with self._lock:
                for flight, why in failed:
                    if not flight.is_over:
                        self._end(flight, why, outcomes)
                self._notify_if_empty()
            hand_out(outcomes)

    # Inside

    def _inner(self, flight: Flight, value: Any, now: float) -> Request:
        """The request for the stage that the flight is in."""
        request, stage = flight.request, flight.stage
        priority, caller, cost = request.priority, request.caller, request.cost
        payload, deadline, key = value, request.deadline, request.key
        if stage == "predict":
            if self._plan[0] == "preprocess":  # which has found its cost, and was admitted for it
                (payload, cost), caller = value, None
        else:
            payload, cost = (stage, value), 1
            key = None if key is None else (stage, key)
            if stage == "postprocess":
                priority, caller = CONTINUED, None
            elif deadline - now > 0.0:
                deadline -= min(self._rest(), _MOST_OF_THE_TIME * (deadline - now))
        return Request(payload, cost, now, deadline, self, flight, priority, caller, key)

    def _rest(self) -> float:
        """Seconds that an input needs once it is preprocessed, if it waits for nothing."""
        schedule, after = self._device.schedule, self._flights.tallies["postprocess"]
        return schedule.replicas[0].pace.seconds(1) + schedule.handoff + after.typical

    def _refusal(self, requests: Sequence[Request], now: float) -> BatcherError | None:
        """By what is in the air, and by the device; the CPU's collector asks for its own part."""
        if not self._plan:
            return NotReady("the model is being loaded", _RETRY_AFTER)
        if self._phase != "open":
            return Draining("the service is shutting down", _RETRY_AFTER)
        if self._plan[0] != "preprocess":  # the device's collector sees to it
            return None
        if (not_ready := self._device.not_ready()) is not None:
            return not_ready
        preparing = self._flights.tallies["preprocess"].inside
        if not len(self._flights):
            return None
        error = self._device.schedule.refusal_behind(requests, preparing, now)
        if isinstance(error, Overloaded):
            return Overloaded(f"predict: {error}", error.retry_after)
        return error

    def _collector_of(self, stage: Stage) -> StageCollector:
        return self._device if stage == "predict" else self._cpu

    def _arrived(self, sent: Sequence[tuple[Flight, Stage, Request]]) -> None:
        """In their collectors. Some may be out again, and further on."""
        gone: list[tuple[Stage, Request]] = []
        with self._lock:
            for flight, stage, inner in sent:
                if flight.is_over:
                    gone.append((stage, inner))
                elif flight.stage == stage:
                    flight.inner = inner
        for stage, inner in gone:
            self._collector_of(stage).withdraw([inner], Cancelled("the caller has gone"))

    def _end(self, flight: Flight, outcome: Outcome, outcomes: Outbox) -> None:
        self._flights.end(flight, outcome)
        outcomes[flight.request.sink].append((flight.request, outcome))

    def _notify_if_empty(self) -> None:
        if self._phase != "open" and not len(self._flights):
            self._changed.notify_all()

    def _may_begin(self) -> bool:
        """More preprocessing? Called with the lock of the CPU's collector."""
        return self._device.schedule.pending.rows < self._most_ready

    def _has_room(self) -> None:
        """The device may have taken something."""
        if self._cpu.schedule.pending.rows and self._may_begin():
            self._cpu.wake()

    def __repr__(self) -> str:
        return f"<Stages {' → '.join(self._plan)}, {self._flights!r}>"


def _after_acceptance(error: BatcherError) -> BatcherError:
    """A stage further on has no time for it: it has been accepted, so it is late, not refused."""
    return DeadlineExceeded(f"predict: {error}") if isinstance(error, Overloaded) else error
