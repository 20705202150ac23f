"""Request and Batch: what travels through the engine, and the one way out of it.

A request is WAITING in the queue, then RUNNING in one batch, then DONE; a caller who gives up takes
it from either of the first two straight to DONE, and a worker that is lost takes it from the second
back to the first. The collector makes every move, under its lock.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from batcher.errors import BatcherError

Payload = Any
"""What the runner takes: the engine never looks inside."""

LEVELS = 8  # of priority; 0 is the most urgent
FIRST_BULK = 4


def is_bulk(priority: int) -> bool:
    """The lane: bulk work fills what interactive work leaves."""
    return priority >= FIRST_BULK


class State:
    """No Enum: before Python 3.12 to name a member of one takes ten times as long as this, and each
    request does it five times."""

    WAITING: Final = "waiting"
    RUNNING: Final = "running"
    DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How one batch went, told with every answer that came out of it. Times in seconds."""

    replica: int
    size: int  # rows, as run
    requests: int  # that had a row, or shared one
    tokens: int  # as run, padding included: size x the longest
    useful_tokens: int
    reason: str  # why it closed: full, tokens, memory, lengths, lanes, deadline, regroup, idle, …
    closed: float  # on the clock
    oldest_wait: float
    predicted: float
    inference: float  # 0.0: it failed

    @property
    def padding_ratio(self) -> float:
        return 1.0 - self.useful_tokens / self.tokens if self.tokens else 0.0


class Answer(NamedTuple):  # and no dataclass: a frozen one costs 1.5 us more to make
    """A result with its history. `queue_wait` is arrival to dispatch, in seconds."""

    value: Any
    queue_wait: float
    batch: BatchReport


Outcome = Answer | BatcherError


class Sink(Protocol):
    """Where the outcomes of a caller's requests go."""

    def deliver(self, settled: Sequence[tuple[Request, Outcome]]) -> None:
        """Called from any thread, outside every lock, once per batch. Must not block or raise."""


@dataclass(slots=True, eq=False)
class Request:
    """One unit that a caller waits for. `cost` is in tokens; times are absolute, on the clock."""

    payload: Payload
    cost: int
    arrival: float
    deadline: float
    sink: Sink
    ticket: object = None  # the sink's own note of whose request this is
    priority: int = 3  # 0 (soonest) to 7; from 4 on it is bulk
    caller: str | None = None  # who is asking, for a fair share of the queue; None: exempt
    key: Hashable | None = None  # equal for equal inputs, which share a row; None: shares with none
    losses: int = 0  # workers lost with it aboard
    passed: int = 0  # batches that were cut without it when it was its turn
    rank: tuple[int, float, int] = (0, 0.0, 0)  # its place in the queue: see Pending
    state: str = State.WAITING


class BatchOwner(Protocol):
    """The collector, as a batch knows it. Each call ends the batch."""

    def settle(self, batch: Batch, results: Sequence[Any], inference: float) -> None: ...

    def halve(self, batch: Batch, out_of_memory: bool) -> Sequence[Batch]: ...

    def requeue(self, batch: Batch, lost: bool) -> int: ...


@dataclass(slots=True, eq=False)
class Batch:
    """Its rows are fixed once closed. Taken by the thread that runs it, and ended by it, once: by
    settle(), the only way out for its requests, or by halve() or requeue(), which hand them on.

    One without requests is a canary: a run of the engine's own, to see that the replica answers.
    """

    requests: Sequence[Request]  # one for each row
    twins: dict[int, list[Request]]  # by row: who else waits for its result; more may join
    replica: int
    reason: str
    closed: float
    predicted: float  # seconds
    owner: BatchOwner
    patience: float = 0.0  # seconds; not answered by then, its worker is taken to hang
    is_ahead: bool = False  # it was cut while the one before it ran
    padding_free: bool = False  # its runner runs useful tokens only
    tokens: int = field(init=False)
    useful_tokens: int = field(init=False)
    ended: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        costs = [request.cost for request in self.requests]
        self.useful_tokens = sum(costs)
        padded = len(costs) * max(costs, default=0)
        self.tokens = self.useful_tokens if self.padding_free else padded

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.requests)

    def row(self, place: int) -> list[Request]:
        """All who wait for the result of that row."""
        return [self.requests[place], *self.twins.get(place, ())]

    @property
    def payloads(self) -> list[Payload]:
        return [request.payload for request in self.requests]

    def report(self, inference: float) -> BatchReport:
        """`inference` in seconds; 0: it failed."""
        oldest = min([request.arrival for request in self.requests], default=self.closed)
        return BatchReport(
            replica=self.replica,
            size=self.size,
            requests=self.size + sum(map(len, self.twins.values())),
            tokens=self.tokens,
            useful_tokens=self.useful_tokens,
            reason=self.reason,
            closed=self.closed,
            oldest_wait=self.closed - oldest,
            predicted=self.predicted,
            inference=inference,
        )

    def settle(self, results: Sequence[Any], inference: float = 0.0) -> None:
        """Gives each request its outcome: one result per row, in order.

        A result that is an Exception fails the requests of its own row. A request whose caller has
        already gone is skipped. `inference` is the time in the runner, in seconds.
        """
        assert len(results) == self.size, "not one result per row: this is a bug"
        self._end()
        self.owner.settle(self, results, inference)

    def fail(self, error: BatcherError) -> None:
        """The same error for every request."""
        self.settle([error] * self.size)

    def halve(self, out_of_memory: bool = False) -> Sequence[Batch]:
        """Up to two batches of those whose callers still wait, in order; the others are settled."""
        self._end()
        return self.owner.halve(self, out_of_memory)

    def requeue(self, lost: bool) -> int:
        """Back to the front of the queue. `lost`: with a worker, which counts against each request.

        Returns how many were found to be poison, and failed.
        """
        self._end()
        return self.owner.requeue(self, lost)

    def _end(self) -> None:
        assert not self.ended, "ended twice: this is a bug"
        self.ended = True

    def __repr__(self) -> str:
        return f"<Batch of {self.size}, {self.tokens} tokens, {self.reason}>"
