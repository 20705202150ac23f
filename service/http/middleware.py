"""Around every endpoint: id, clock, key, metrics, and an answer whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import orjson
from starlette.types import Receive, Scope, Send

from batcher import BatcherError, WorkerLost
from service.errors import (
    ErrorFormat,
    InputError,
    Problem,
    WrongTask,
    internal,
    outcome_of,
    problem_of,
)
from service.http.auth import check_key
from service.http.exchange import Disconnected, Exchange
from service.http.patience import Patience

_log = logging.getLogger(__name__)

Endpoint = Callable[[Exchange], Awaitable[None]]


class Routing(Protocol):
    def find(self, method: str, path: str) -> Endpoint:
        """Raises Problem 404, 405."""

    def is_open(self, path: str) -> bool:
        """Whether it asks for no key."""

    def error_format(self, path: str) -> ErrorFormat:
        """Of any path."""


class HttpCounts(Protocol):
    def observe(self, path: str, outcome: str, seconds: float) -> None: ...


class Service(Protocol):
    """What the middleware has to know of the process that it runs in."""

    stopping: bool
    jitter: Callable[[], float]


class ExchangeMiddleware:
    def __init__(
        self,
        routing: Routing,
        service: Service,
        now: Callable[[], float],
        counts: HttpCounts,
        keys: Sequence[bytes],
    ) -> None:
        self._find = routing.find
        self._routing = routing
        self._service = service
        self._now = now
        self._counts = counts
        self._keys = keys
        self._patience = Patience(now)
        # Unique without asking the kernel for randomness with every request.
        prefix = os.urandom(6).hex().encode()
        self._ids = (b"%s-%x" % (prefix, number) for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._now(), next(self._ids), self._service)
        path = exchange.path
        self._patience.watch(exchange)
        outcome = None
        try:
            if self._keys and not self._routing.is_open(path):
                exchange.caller = check_key(exchange.headers, self._keys)
            await self._find(scope["method"], path)(exchange)
        except Exception as error:
            outcome = await self._answer_error(exchange, error)
        except asyncio.CancelledError:
            why = exchange.interruption()
            if why is None:
                outcome = "cancelled"
                raise
            outcome = await self._answer_error(exchange, why)
        finally:
            self._patience.ended(exchange)
            seconds = self._now() - exchange.started
            if outcome is None:
                outcome = "ok" if exchange.status == 200 else outcome_of(exchange.status)
            self._counts.observe(path, outcome, seconds)

    async def _answer_error(self, exchange: Exchange, error: Exception) -> str | None:
        """Returns the outcome where there is no client to answer."""
        request_id = exchange.request_id.decode()
        if isinstance(error, Disconnected):
            return "cancelled"
        if exchange.status:
            raise RuntimeError(f"request {request_id} failed in mid-answer") from error
        format = self._routing.error_format(exchange.path)
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, BatcherError | InputError | WrongTask):
            problem = problem_of(error, format)
            if problem.status == 500 or isinstance(error, WorkerLost):
                _log.warning("request %s: %s", request_id, error)
        else:
            _log.error("request %s failed", request_id, exc_info=error)
            problem = internal()
        body = orjson.dumps(format.envelope(problem, request_id))
        headers = problem.headers(self._service.jitter)
        await exchange.answer(body, *headers, status=problem.status)
        return None
