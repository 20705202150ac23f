"""What a front and the engine say to each other. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from batcher.errors import BatcherError
from batcher.request import Answer

Json = Any


class FrameError(Exception):
    """What came is no frame of ours; or what is to be sent fits in none."""


class Hello(NamedTuple):
    version: int


class Submit(NamedTuple):
    """One call: all of its inputs are admitted or none. Answered by Settled, or one Failed."""

    call: int
    deadline: float  # absolute, on the clock that all processes of a machine share
    priority: int
    caller: str | None
    costs: Sequence[int]
    payloads: Sequence[Any]


class Withdraw(NamedTuple):
    """The caller of that call has gone, or its deadline has come."""

    call: int
    is_late: bool


class Settled(NamedTuple):
    """Answers out of one batch: of which call, which of its inputs, and what."""

    entries: Sequence[tuple[int, int, Answer]]


class Failed(NamedTuple):
    """The call, with all that is left of it."""

    call: int
    error: BatcherError


class Ask(NamedTuple):
    number: int
    subject: str


class Told(NamedTuple):
    number: int
    value: Json


Message = Hello | Submit | Withdraw | Settled | Failed | Ask | Told
