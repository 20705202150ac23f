"""Messages: what a frontend and the engine send each other. Plain records.

The two are always of one version of the code, since one supervisor starts both; Hello checks it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta, Struct

from batcher import errors
from batcher.errors import BatcherError, Refused, RunnerFailed
from batcher.remote.values import Rows, pack, rows_of
from batcher.request import LEVELS, Answer, BatchReport, StageTime
from batcher.snapshot import Snapshot

VERSION: Final = 3
MARK: Final = "batcher"

Json = Any
Index = Annotated[int, Meta(ge=0)]

# By name: what an error is sent as.
_ERRORS: dict[str, type[BatcherError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, BatcherError)
    if kind not in (BatcherError, Refused)
}


class FrameError(Exception):
    """What was received is no message, or not one that this side takes."""


class Hello(Struct, tag=1, array_like=True, frozen=True, gc=False):
    """The first message in each direction."""

    mark: str = MARK
    version: int = VERSION


class Submit(Struct, tag=2, array_like=True, frozen=True, gc=False):
    """One call: all of its inputs are admitted or none. Answered by Settled, or one CallFailed."""

    call: int
    deadline: Annotated[
        float, Meta(gt=0.0)
    ]  # absolute, on the clock of all the machine's processes
    priority: Annotated[int, Meta(ge=0, lt=LEVELS)]
    caller: bytes | None
    costs: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1)]
    payloads: list[Any]  # packed on their way out


class Withdraw(Struct, tag=3, array_like=True, frozen=True, gc=False):
    """The caller of that call has gone, or its deadline has passed."""

    call: int
    is_late: bool


class Settled(Struct, tag=4, array_like=True, frozen=True, gc=False):
    """Answers out of one batch. One element for each answer in `calls`, `indexes`, `queue_waits`,
    and in `values`, unless they are all in `rows`."""

    report: BatchReport
    calls: list[int]
    indexes: list[Index]  # which of its call's inputs
    queue_waits: list[float]
    values: list[Any]  # packed on their way out
    rows: Rows | None
    stages: list[list[StageTime]]  # empty: there are none

    @classmethod
    def of(cls, answers: Sequence[tuple[int, int, Answer]]) -> Self:
        """Call, index and answer. Raises Unsendable."""
        values = [answer.value for _, _, answer in answers]
        rows = rows_of(values)
        return cls(
            answers[0][2].batch,
            [call for call, _, _ in answers],
            [index for _, index, _ in answers],
            [answer.queue_wait for _, _, answer in answers],
            [pack(value) for value in values] if rows is None else [],
            rows,
            [list(answer.stages) for _, _, answer in answers] if answers[0][2].stages else [],
        )

    def answers(self) -> list[tuple[int, int, Answer]]:
        """Raises FrameError if it is damaged."""
        report, rows = self.report, self.rows
        try:
            values = self.values if rows is None else rows.split(len(self.calls))
            answers = [
                (call, index, Answer(value, queue_wait, report))
                for call, index, queue_wait, value in zip(
                    self.calls, self.indexes, self.queue_waits, values, strict=True
                )
            ]
            if not self.stages:
                return answers
            return [
                (call, index, answer._replace(stages=tuple(stages)))
                for (call, index, answer), stages in zip(answers, self.stages, strict=True)
            ]
        except (ValueError, TypeError) as error:
            raise FrameError(f"the answers of a batch, damaged: {error}") from None


class CallFailed(Struct, tag=5, array_like=True, frozen=True, gc=False):
    """Nothing more will be sent about that call."""

    call: int
    kind: str
    text: bytes
    retry_after: float

    @classmethod
    def of(cls, call: int, error: BatcherError) -> Self:
        """An error of the model's own kind is sent as RunnerFailed."""
        known = (kind for kind in type(error).__mro__ if _ERRORS.get(kind.__name__) is kind)
        kind = next(known, RunnerFailed)
        retry_after = error.retry_after if isinstance(error, Refused) else 0.0
        return cls(call, kind.__name__, bytes_of(str(error)), retry_after)

    def error(self) -> BatcherError:
        """Raises FrameError if it is damaged."""
        kind, text = _ERRORS.get(self.kind), text_of(self.text)
        if kind is None:
            raise FrameError(f"an error of kind {self.kind!r}")
        return kind(text, self.retry_after) if issubclass(kind, Refused) else kind(text)


class Query(Struct, tag=6, array_like=True, frozen=True, gc=False):
    """Answered by the Reply with the same number."""

    number: int
    subject: str


class Reply(Struct, tag=7, array_like=True, frozen=True, gc=False):
    number: int
    text: bytes  # JSON

    @classmethod
    def of(cls, number: int, value: object) -> Self:
        """A dataclass becomes an object; what JSON does not have becomes text."""
        plain = msgspec.to_builtins(value, enc_hook=str)
        return cls(number, json.dumps(plain).encode())

    def value(self) -> Json:
        """Raises FrameError if it is damaged."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"a reply that is no JSON: {error}") from None


def bytes_of(text: str) -> bytes:
    """A text may hold lone surrogates, which MessagePack's may not."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes) -> str:
    """Raises FrameError if it is damaged."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise FrameError(f"a text, damaged: {error}") from None


Message = Hello | Submit | Withdraw | Settled | CallFailed | Query | Reply


def snapshot_from(told: Json) -> Snapshot:
    """Of one that was sent in a Reply."""
    return msgspec.convert(told, Snapshot)


def batches_from(told: Json) -> list[BatchReport]:
    """Of a list of them that was sent in a Reply."""
    return msgspec.convert(told, list[BatchReport])
