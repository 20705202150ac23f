"""Every answer that is no result. One table: engine error → status. The envelopes are in api/."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random

from batcher import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    Refused,
    RunnerFailed,
    WorkerLost,
)

Header = tuple[bytes, bytes]

Envelope = Callable[["Problem", str], dict[str, object]]
"""The body of an error, from the problem and the request's id."""

_SPREAD = 0.5  # of the wait


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
        self.status = status
        self.message = message
        self.param = param
        self.code = code or kind_of(status).code
        self.retry_after = retry_after
        self.final = kind_of(status).final if final is None else final
        self.extra = headers or {}

    @property
    def kind(self) -> Kind:
        return kind_of(self.status)

    def headers(self, draw: Callable[[], float] = random) -> list[Header]:
        """`draw` gives numbers from 0 to 1: clients that are refused at once come back spread out,
        after the wait or up to half as much again."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.extra.items()]
        if self.retry_after is not None:
            wait = self.retry_after * (1 + _SPREAD * draw())
            seconds = max(1, math.ceil(wait))
            milliseconds = max(1, math.ceil(wait * 1e3))
            headers.append((b"retry-after", b"%d" % seconds))
            headers.append((b"retry-after-ms", b"%d" % milliseconds))
        if self.final:
            # Clients that retry every 5xx (openai does) would bring the failure three times.
            headers.append((b"x-should-retry", b"false"))
        return headers


@dataclass(frozen=True, slots=True)
class Kind:
    """What a status is called in each envelope, and in the metrics."""

    code: str
    openai_type: str
    tei_type: str
    outcome: str
    final: bool


_KINDS = {
    400: Kind("invalid_request", "invalid_request_error", "Validation", "invalid", True),
    401: Kind("invalid_api_key", "authentication_error", "Validation", "invalid", True),
    404: Kind("not_found", "invalid_request_error", "Validation", "invalid", True),
    405: Kind("method_not_allowed", "invalid_request_error", "Validation", "invalid", True),
    408: Kind("request_timeout", "invalid_request_error", "Validation", "invalid", False),
    413: Kind("body_too_large", "invalid_request_error", "Validation", "invalid", True),
    414: Kind("url_too_long", "invalid_request_error", "Validation", "invalid", True),
    415: Kind("unsupported_media_type", "invalid_request_error", "Validation", "invalid", True),
    417: Kind("expectation_failed", "invalid_request_error", "Validation", "invalid", True),
    422: Kind("unacceptable_input", "invalid_request_error", "Validation", "invalid", True),
    429: Kind("overloaded", "overloaded_error", "Overloaded", "overloaded", False),
    431: Kind("headers_too_large", "invalid_request_error", "Validation", "invalid", True),
    500: Kind("internal_error", "server_error", "Backend", "failed", False),
    503: Kind("unavailable", "server_error", "Unhealthy", "unavailable", False),
    504: Kind("deadline_exceeded", "server_error", "Backend", "expired", True),
}


def kind_of(status: int) -> Kind:
    return _KINDS[status if status in _KINDS else 400 if status < 500 else 500]


def outcome_of(status: int) -> str:
    """The label in the metrics."""
    return "ok" if status < 400 else kind_of(status).outcome


# Engine error → status, code, and whether its text is for the caller. Looked up in this order.
_TABLE: tuple[tuple[type[BatcherError], int, str, str | None], ...] = (
    (Overloaded, 429, "overloaded", None),
    (NotReady, 503, "not_ready", None),
    (Draining, 503, "draining", None),
    (DeadlineExceeded, 504, "deadline_exceeded", None),
    (PoisonRequest, 500, "poison_request", None),
    (OutOfMemory, 500, "out_of_memory", None),
    (RunnerFailed, 500, "model_failed", None),
    # Its own text quotes the worker's log, which is none of the caller's business.
    (WorkerLost, 503, "worker_lost", "the worker died while running this request; try again"),
    (Cancelled, 503, "cancelled", None),
)


def problem_of(error: BatcherError) -> Problem:
    for engine_error, status, code, fixed in _TABLE:
        if isinstance(error, engine_error):
            retry_after = error.retry_after if isinstance(error, Refused) else None
            if retry_after is None and status == 503:
                retry_after = 1.0
            return Problem(
                status,
                fixed or str(error),
                code=code,
                retry_after=retry_after,
                final=True if status == 500 else None,  # the model fails on it every time
            )
    raise AssertionError(f"{type(error).__name__} has no status: this is a bug")


def internal() -> Problem:
    return Problem(500, "internal error; the log has it under this request id")


def quote(value: object, limit: int = 80) -> str:
    """A caller's own value in a message, on one line and not at any length."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
