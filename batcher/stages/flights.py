"""Flights: the inputs on their way through the stages, and what has been counted of them. Guarded
by the lock of Stages."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

from batcher.errors import BatcherError, Cancelled, DeadlineExceeded
from batcher.ledger import SECONDS, Histogram
from batcher.request import Answer, BatchReport, Outcome, Request, StageTime
from batcher.snapshot import StageSnapshot

Stage = Literal["preprocess", "predict", "postprocess"]
_LEARNING_RATE = 0.1  # the weight of the last input
STAGES: Final[tuple[Stage, ...]] = ("preprocess", "predict", "postprocess")


class Flight:
    """One input of a caller's."""

    __slots__ = ("batch", "inner", "is_over", "queue_wait", "request", "stage", "times")

    def __init__(self, request: Request, stage: Stage) -> None:
        self.request = request  # the caller's
        self.stage: Stage = stage  # where it is
        self.inner: Request | None = None  # of that stage; None: on its way there
        self.is_over = False  # it has its outcome, or its caller has gone
        self.queue_wait = 0.0  # for the device, in seconds
        self.batch: BatchReport | None = None  # on the device
        self.times: tuple[StageTime, ...] = ()  # of the others

    def ran(self, answer: Answer) -> None:
        """In its present stage."""
        if self.stage == "predict":
            self.queue_wait, self.batch = answer.queue_wait, answer.batch
        else:
            seconds = answer.batch.inference
            self.times = (*self.times, (self.stage, answer.queue_wait, seconds))

    def answer(self, value: object) -> Answer:
        assert self.batch is not None, "it has been on the device"
        return Answer(value, self.queue_wait, self.batch, self.times)


class Tally:
    """Of one stage."""

    def __init__(self) -> None:
        self.inside = 0
        self.ok = self.failed = 0
        self.typical = 0.0  # seconds, of late
        self.queue_wait, self.seconds = Histogram(SECONDS), Histogram(SECONDS)

    def ran(self, answer: Answer) -> None:
        seconds = answer.batch.inference
        self.typical += (_LEARNING_RATE if self.ok else 1.0) * (seconds - self.typical)
        self.ok += 1
        self.queue_wait.observe(answer.queue_wait)
        self.seconds.observe(seconds)

    def snapshot(self) -> StageSnapshot:
        return StageSnapshot(
            self.inside, self.ok, self.failed, self.queue_wait.snapshot(), self.seconds.snapshot()
        )


class Flights:
    """accepted = ok + failed + expired + cancelled + in the air, always."""

    def __init__(self) -> None:
        self.by_request: dict[Request, Flight] = {}
        self.tallies = {stage: Tally() for stage in STAGES}
        self.accepted = self.ok = self.failed = self.expired = self.cancelled = 0
        self.refused: Counter[str] = Counter()

    def begin(self, flight: Flight) -> None:
        self.by_request[flight.request] = flight
        self.tallies[flight.stage].inside += 1
        self.accepted += 1

    def take_back(self, flight: Flight, error: BatcherError) -> None:
        """It was refused after all."""
        flight.is_over = True
        if self.by_request.pop(flight.request, None) is not None:
            self.tallies[flight.stage].inside -= 1
            self.accepted -= 1
            self.refused[type(error).__name__] += 1

    def move(self, flight: Flight, stage: Stage) -> None:
        self.tallies[flight.stage].inside -= 1
        self.tallies[stage].inside += 1
        flight.stage, flight.inner = stage, None

    def end(self, flight: Flight, outcome: Outcome) -> None:
        flight.is_over = True
        del self.by_request[flight.request]
        tally = self.tallies[flight.stage]
        tally.inside -= 1
        if isinstance(outcome, Answer):
            self.ok += 1
        elif isinstance(outcome, DeadlineExceeded):
            self.expired += 1
        elif isinstance(outcome, Cancelled):
            self.cancelled += 1
        else:
            self.failed += 1
            tally.failed += 1

    def __len__(self) -> int:
        return len(self.by_request)

    def __repr__(self) -> str:
        return f"<Flights {len(self)} in the air>"
