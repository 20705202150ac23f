"""AccessLog: one line for each HTTP request that is to be logged, and a bound on those lines."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from typing import Literal

from batcher.failures import printable
from service.errors import Problem

LINES = 10  # in each window, with access log `errors`; of all HTTP processes together
WINDOW = 1.0  # seconds
_MAX_PATH = 200  # characters that are logged

_log = logging.getLogger("service.access")

Mode = Literal["off", "errors", "all"]


@dataclass(frozen=True, slots=True)
class HandledRequest:
    method: str
    path: str
    status: int  # 0: the client disconnected before there was an answer
    code: str  # of the error; empty: none
    seconds: float
    client: str  # its address; empty: not known
    request_id: str


class AccessLog:
    """Of one event loop."""

    def __init__(
        self,
        mode: Mode,
        now: Callable[[], float],
        processes: int = 1,  # that share LINES
    ) -> None:
        self.logs_success = mode == "all"
        # Their 503 says that the model is loading: no error, and asked for every few seconds.
        self.probes: Container[str] = ()
        self._is_off = mode == "off"
        self._now = now
        self._limit = LineLimit(max(1, LINES // processes))
        self._reporting: asyncio.TimerHandle | None = None

    def add(self, request: HandledRequest) -> None:
        level = logging.WARNING if request.status >= 500 else logging.INFO
        if self._is_off or not _log.isEnabledFor(level):
            return
        if not self.logs_success:
            if request.status == 503 and request.method != "POST" and request.path in self.probes:
                return
            if not self._limit.admits(request.status, self._now()):
                self._report_later()
                return
        outcome = f"{request.status} {request.code}".rstrip()
        _log.log(
            level,
            "%s %s %s in %.1f ms (%srequest %s)",
            request.method,
            printable(request.path[:_MAX_PATH], "?"),
            outcome if request.status else "client disconnected",
            request.seconds * 1e3,
            f"client {request.client}, " if request.client else "",
            request.request_id,
            extra={"fields": asdict(request)},  # what JSON has beside the text
        )

    def add_refusal(self, problem: Problem, request_id: str, client: str) -> None:
        """Of bytes that are no request, or not all of one."""
        self.add(HandledRequest("-", "-", problem.status, problem.code, 0.0, client, request_id))

    def close(self) -> None:
        """Logs what is still to be reported."""
        if self._reporting is not None:
            self._reporting.cancel()
            self._report()

    def _report_later(self) -> None:
        if self._reporting is None:
            left = self._limit.window_ends - self._now()
            self._reporting = asyncio.get_running_loop().call_later(max(0.0, left), self._report)

    def _report(self) -> None:
        self._reporting = None
        omitted = self._limit.take_omitted()
        kinds = [
            f"{count} with status {status}" if status else f"{count} disconnected"
            for status, count in omitted.most_common()
        ]
        _log.log(
            logging.WARNING if max(omitted) >= 500 else logging.INFO,
            "%d more requests failed within the last second and are not logged one by one: %s",
            omitted.total(),
            ", ".join(kinds),
            extra={"fields": {"omitted": dict(omitted)}},
        )


class LineLimit:
    """At most so many lines in each window; counts the others by status. Time is handed in."""

    def __init__(self, lines: int, window: float = WINDOW) -> None:
        self._lines = lines
        self._window = window
        self._written = 0  # in this window
        self._omitted: Counter[int] = Counter()
        self.window_ends = float("-inf")

    def admits(self, status: int, now: float) -> bool:
        if now >= self.window_ends:
            self.window_ends = now + self._window
            self._written = 0
        if self._written < self._lines:
            self._written += 1
            return True
        self._omitted[status] += 1
        return False

    def take_omitted(self) -> Counter[int]:
        """Those since the last call."""
        omitted, self._omitted = self._omitted, Counter()
        return omitted
