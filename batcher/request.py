"""Request, Batch, and what becomes of them: plain data.

A request is WAITING in the queue, then RUNNING in one batch, then DONE. A caller that gives up
moves it from either of the first two straight to DONE; a lost worker moves it back to the queue.
Only the ledger changes the state, under the collector's lock.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from batcher.errors import BatcherError

Payload = Any
"""What the runner takes: the engine never looks inside."""

LEVELS = 8  # of priority; 0 is the most urgent
CONTINUED = -1  # the priority of what has been accepted elsewhere: first of all, and not refused
FIRST_BULK = 4  # from here on: bulk work, which fills what interactive work leaves
# So many workers lost with a request aboard: it runs in a batch of its own; it is poison.
ALONE, LOSSES_OF_A_CULPRIT = 2, 3


class State:
    """No Enum: before Python 3.12 naming a member takes ten times as long, and each request does so
    five times."""

    WAITING: Final = "waiting"
    RUNNING: Final = "running"
    DONE: Final = "done"


CloseReason = Literal[
    "full",  # max_batch_size
    "tokens",  # max_batch_tokens
    "memory",  # the learned ceiling of the device's memory
    "lengths",  # the others differ so much in length that padding would cost more
    "lanes",  # more bulk would delay the interactive requests in it for too long
    "deadline",  # smaller, so that the rest is in time
    "share",  # another replica finishes the others sooner
    "regroup",  # the wait for callers that come straight back was over
    "max_wait",  # the oldest request had waited that long
    "idle",  # all that waited, at once
    "drain",  # all that waited, while shutting down
    "ahead",  # all that waited, cut while the batch before it ran
    "retry",  # requests that were aboard when a worker was lost
    "split",  # half of a batch that failed
    "canary",  # no requests: a run to see that the replica answers
    "cache",  # no run: an answer from memory
]
"""Why a batch was closed, and why no more requests went in it."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How one batch went; part of every answer that came out of it. Times in seconds."""

    replica: int
    size: int  # rows, as run
    requests: int  # that had a row or shared one
    tokens: int  # as run, padding included: size x the longest
    useful_tokens: int
    padding_ratio: float  # the share of the tokens that is padding
    reason: CloseReason
    closed: float  # on the clock
    oldest_wait: float
    predicted: float
    inference: float  # 0.0: it failed


StageTime = tuple[str, float, float]
"""The name of a stage beside the batch, and the seconds that an input waited for it and was in
it."""


class Answer(NamedTuple):  # not a frozen dataclass, which takes 1.5 us more to make
    """A result with its history. `queue_wait` is arrival to dispatch, in seconds."""

    value: Any
    queue_wait: float
    batch: BatchReport
    stages: tuple[StageTime, ...] = ()


Outcome = Answer | BatcherError


class Sink(Protocol):
    """Where the outcomes of a caller's requests go."""

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        """Called from any thread, outside every lock, once per batch. Must not block or raise."""


Outbox = dict[Sink, list[tuple["Request", Outcome]]]
"""Outcomes that are decided and not delivered yet, by sink."""


@dataclass(slots=True, eq=False)
class Request:
    """One unit that a caller waits for. `cost` is in tokens; times are absolute, on the clock."""

    payload: Payload
    cost: int
    arrival: float
    deadline: float
    sink: Sink
    reply_to: object = None  # for the sink: which call, and which of its inputs
    priority: int = 3  # 0 (soonest) to 7; from 4 on it is bulk
    caller: str | None = None  # for a fair share of the queue; None: exempt from it
    key: Hashable | None = None  # equal for equal inputs, which share a row; None: never shared
    workers_lost: int = 0  # with it aboard
    times_skipped: int = 0  # batches that were cut without it when it was its turn
    order_key: tuple[int, float, int] = (0, 0.0, 0)  # its place in the queue: see Pending
    state: str = State.WAITING


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Requests that run together. Fixed when it is made, but for duplicates that join a row.

    The thread that took it from the collector ends it there, once: with settle(), fail(), halve()
    or requeue(). A batch without requests is a canary: a run of the engine's own.
    """

    requests: Sequence[Request]  # one for each row
    duplicates: dict[int, list[Request]]  # by row: others that wait for its result
    replica: int
    reason: CloseReason
    closed: float  # on the clock
    predicted: float  # seconds in the runner
    hang_timeout: float  # seconds; without an answer by then its worker is taken to hang
    tokens: int  # as run: padded, unless the runner is padding-free
    useful_tokens: int
    is_early: bool = False  # cut while the batch before it ran

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.requests)

    def row(self, place: int) -> list[Request]:
        """All requests that wait for the result of that row."""
        return [self.requests[place], *self.duplicates.get(place, ())]

    def __repr__(self) -> str:
        return f"<Batch of {self.size}, {self.tokens} tokens, {self.reason}>"
