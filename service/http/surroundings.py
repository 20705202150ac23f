"""What an exchange and its middleware need of the process that they run in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from service.http.body import LargeBodies, Offload


class Service(Protocol):
    stopping: bool  # a signal has come: clients are told to come back on another connection
    jitter: Callable[[], float]
    request_timeout: float  # seconds, of a request that names none
    max_body_bytes: int
    large_bodies: LargeBodies

    @property
    def offload(self) -> Offload: ...


class Durations(Protocol):
    def observe(self, seconds: float) -> None: ...


class HttpCounts(Protocol):
    @property
    def durations(self) -> Mapping[tuple[str, str], Durations]:
        """By path and outcome: those that have been before."""

    def observe(self, path: str, outcome: str, seconds: float) -> None:
        """The first of its kind, or any."""
