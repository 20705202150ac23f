"""Around every endpoint: id, clock, key, metrics, and an answer whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Protocol

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

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
from service.http.exchange import Disconnected, Exchange, SlowRequests

_log = logging.getLogger(__name__)

Endpoint = Callable[[Exchange], Awaitable[None]]
EXCHANGE = "exchange"
"""The key in the scope, on the way through Starlette's router."""


class HttpCounts(Protocol):
    def observe(self, path: str, outcome: str, seconds: float) -> None: ...


class Service(Protocol):
    """What the middleware has to know of the process that it runs in."""

    stopping: bool
    jitter: Callable[[], float]


class ExchangeMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Service,
        now: Callable[[], float],
        counts: HttpCounts,
        keys: Sequence[bytes],
        open_paths: Container[str],  # they ask for no key
        error_format_of: Callable[[str], ErrorFormat],  # a path
        exact: Mapping[tuple[str, str], Endpoint],  # by method and path; the app has all others
    ) -> None:
        self._app = app
        self._exact = exact
        self._open_paths = open_paths
        self._error_format_of = error_format_of
        self._service = service
        self._now = now
        self._counts = counts
        self._keys = keys
        self._slow_requests = SlowRequests()
        # Unique without asking the kernel for randomness with every request.
        prefix = os.urandom(6).hex().encode()
        self._ids = (b"%s-%x" % (prefix, number) for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._now(), next(self._ids), self._service)
        path = exchange.path
        self._slow_requests.begin(exchange)
        outcome = None
        try:
            if self._keys and path not in self._open_paths:
                exchange.caller = check_key(exchange.headers, self._keys)
            endpoint = self._exact.get((scope["method"], path))
            if endpoint is not None:
                await endpoint(exchange)
            else:
                scope[EXCHANGE] = exchange
                await self._app(scope, receive, send)
        except Exception as error:
            outcome = await self._answer_error(exchange, error)
        except asyncio.CancelledError:
            why = exchange.interruption()
            if why is None:
                outcome = "cancelled"
                raise
            outcome = await self._answer_error(exchange, why)
        finally:
            # It refers to the server's request, which refers to the scope.
            scope.pop(EXCHANGE, None)
            self._slow_requests.end(exchange)
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
        format = self._error_format_of(exchange.path)
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
