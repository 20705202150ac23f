"""Every answer that is no result. Two tables: error → kind, and kind → status. The statuses that a
protocol has of its own, and the bodies: see api/."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import random

from batcher import (
    BadInput,
    BatcherError,
    CallTooLarge,
    Cancelled,
    DeadlineExceeded,
    Draining,
    InvalidPayload,
    NeverInTime,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    Refused,
    RunnerFailed,
    WorkerLost,
)

Header = tuple[bytes, bytes]

_SPREAD = 0.5  # of the wait


class InputError(ValueError):
    """An input is at fault, not the service. `field` is which one; `rule` is what it breaks, for
    the caller to read. Raised by tasks, which know no HTTP."""

    kind = "unacceptable_input"

    def __init__(self, rule: str, *, field: str = "", kind: str | None = None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.field = field
        if kind is not None:
            self.kind = kind

    def at(self, field: str) -> InputError:
        self.field = field
        return self

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}" if self.field else self.rule


class CannotServe(ValueError):
    """The model, the settings and this machine do not fit together. The text says what to change;
    the same start fails again."""


def how_to_install(*extras: str) -> str:
    """For the text of an error: one of these extras is missing. No package registry has this
    service, so they are installed from its own folder."""
    commands = " or ".join(f"pip install -e '.[{extra}]'" for extra in extras)
    return f"run {commands} in the clone of batcher"


class WrongTask(Exception):
    """The model is not for this. The text says what it is for. The same call will fail again."""


class Problem(Exception):
    """A status and a text for the caller. `param` is the field, or header, that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,  # seconds
        final: bool | None = None,  # the same request would fail again; None: as its status says
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        status_kind = _of_status(status)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or status_kind.code
        self.retry_after = retry_after
        self.final = status_kind.final if final is None else final
        self.extra = headers or {}

    def headers(self, jitter: Callable[[], float] = random) -> list[Header]:
        """`jitter` gives numbers from 0 to 1: clients that are refused together come back spread
        out, after the wait or up to half as much again."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.extra.items()]
        if self.retry_after is not None:
            wait = self.retry_after * (1 + _SPREAD * jitter())
            seconds = max(1, math.ceil(wait))
            milliseconds = max(1, math.ceil(wait * 1e3))
            headers.append((b"retry-after", b"%d" % seconds))
            headers.append((b"retry-after-ms", b"%d" % milliseconds))
        if self.final:
            # Clients that retry every 5xx (openai does) would bring the failure three times.
            headers.append((b"x-should-retry", b"false"))
        return headers


KnownError = BatcherError | InputError | WrongTask
"""What problem_of() takes."""

Envelope = Callable[[Problem, str], dict[str, object]]
"""The body of an error, from the problem and the request's id."""


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How one protocol answers what is no result."""

    envelope: Envelope
    statuses: Mapping[str, int] = field(default_factory=dict)  # of a kind, where not the usual one
    codes: Mapping[str, str] = field(default_factory=dict)  # likewise, where not the kind itself
    fields: Mapping[str, str] = field(default_factory=dict)  # that it calls something else
    text: Callable[[KnownError], str | None] | None = None  # instead of the error's own; None: that


@dataclass(frozen=True, slots=True)
class _StatusKind:
    """What a status means where nothing more is known: its code, and its label in the metrics."""

    code: str
    outcome: str
    final: bool


_STATUSES = {
    400: _StatusKind("invalid_request", "invalid", True),
    401: _StatusKind("invalid_api_key", "invalid", True),
    404: _StatusKind("not_found", "invalid", True),
    405: _StatusKind("method_not_allowed", "invalid", True),
    408: _StatusKind("request_timeout", "invalid", False),
    413: _StatusKind("body_too_large", "invalid", True),
    414: _StatusKind("url_too_long", "invalid", True),
    415: _StatusKind("unsupported_media_type", "invalid", True),
    417: _StatusKind("expectation_failed", "invalid", True),
    422: _StatusKind("unacceptable_input", "invalid", True),
    424: _StatusKind("wrong_task", "invalid", True),
    429: _StatusKind("overloaded", "overloaded", False),
    431: _StatusKind("headers_too_large", "invalid", True),
    500: _StatusKind("internal_error", "failed", False),
    501: _StatusKind("not_offered", "invalid", True),
    503: _StatusKind("unavailable", "unavailable", False),
    504: _StatusKind("deadline_exceeded", "expired", True),
}


def _of_status(status: int) -> _StatusKind:
    return _STATUSES[status if status in _STATUSES else 400 if status < 500 else 500]


def outcome_of(status: int) -> str:
    """The label in the metrics."""
    return "ok" if status < 400 else _of_status(status).outcome


# Error → its kind, and what the caller reads instead of its text. Looked up in this order. An
# InputError says itself which of its kinds it is.
_TABLE: tuple[tuple[type[Exception], str, str | None], ...] = (
    (Overloaded, "overloaded", None),
    (NeverInTime, "never_in_time", None),
    (CallTooLarge, "too_many_inputs", None),
    (NotReady, "not_ready", None),
    (Draining, "draining", None),
    (DeadlineExceeded, "deadline_exceeded", None),
    (InvalidPayload, "unacceptable_input", None),
    (BadInput, "unacceptable_input", None),
    (PoisonRequest, "poison_request", None),
    (OutOfMemory, "out_of_memory", None),
    (RunnerFailed, "model_failed", None),
    # Its own text quotes the worker's log, which is none of the caller's business.
    (WorkerLost, "worker_lost", "the worker died while running this request; try again"),
    (Cancelled, "cancelled", None),
    (WrongTask, "wrong_task", None),
    (InputError, "", None),
)
# Of each kind, unless a protocol says otherwise.
KIND_STATUSES = {
    "invalid_request": 400,
    "wrong_task": 400,
    "never_in_time": 400,  # what the clients of no protocol retry
    "empty": 422,
    "too_many_inputs": 422,
    "unacceptable_input": 422,
    "overloaded": 429,
    "poison_request": 500,
    "out_of_memory": 500,
    "model_failed": 500,
    "not_ready": 503,
    "draining": 503,
    "worker_lost": 503,
    "cancelled": 503,
    "deadline_exceeded": 504,
}
BODY_400: Mapping[str, int] = dict.fromkeys(("empty", "too_many_inputs", "unacceptable_input"), 400)
"""Of a protocol that answers 400 to all that is wrong with a body."""


def problem_of(error: KnownError, format: ErrorFormat | None = None) -> Problem:
    """How a protocol says it; without one, as most do."""
    row = next((row for row in _TABLE if isinstance(error, row[0])), None)
    assert row is not None, f"{type(error).__name__} has no kind: this is a bug"
    _, kind, fixed = row
    param = None
    if isinstance(error, InputError):
        if format is not None:
            error.field = format.fields.get(error.field, error.field)
        kind, param = error.kind, error.field or None
    status, code = KIND_STATUSES[kind], kind
    text = fixed
    if format is not None:
        status, code = format.statuses.get(kind, status), format.codes.get(kind, code)
        text = text or (format.text(error) if format.text is not None else None)
    retry_after = error.retry_after if isinstance(error, Refused) else None
    if retry_after is None and status == 503:
        retry_after = 1.0
    return Problem(
        status,
        text or str(error),
        param=param,
        code=code,
        retry_after=retry_after,
        final=True if status == 500 else None,  # the model fails on it every time
    )


def internal() -> Problem:
    return Problem(500, "internal error; see the service's log for this request id")


def quote(value: object, limit: int = 80) -> str:
    """A caller's own value in a message, on one line and not at any length."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_kind(value: object) -> str:
    """What JSON calls it, with the value where that is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {quote(value, 30)}"
    if isinstance(value, str):
        return f"the text {quote(value, 30)}"
    return "a list" if isinstance(value, list) else "an object"
