"""The only middleware: id, clock, key, metrics, and an answer whatever happens. For every route."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Mapping

import orjson
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from batcher import BatcherError, WorkerLost
from service.errors import Envelope, Problem, internal, outcome_of, problem_of
from service.http.exchange import Disconnected, Exchange
from service.http.limits import check_key
from service.http.patience import Patience
from service.state import Front

_log = logging.getLogger(__name__)
_OPEN_ROUTES = frozenset({"/health", "/health/live", "/health/ready", "/docs"})  # no key asked


class ExchangeMiddleware:
    """`hot` are the POST endpoints by path: reached at once, without Starlette's own layers, which
    cost more than a third of a short request."""

    def __init__(
        self,
        app: ASGIApp,
        front: Front,
        hot: Mapping[str, ASGIApp],
        envelope_of: Callable[[str], Envelope],
    ) -> None:
        self._app = app
        self._envelope_of = envelope_of
        self._front = front
        self._hot = hot
        self._now = front.clock.now
        self._patience = Patience(self._now)
        self._keys = front.settings.api_keys
        # Unique without asking the kernel for randomness with every request.
        prefix = os.urandom(6).hex().encode()
        self._ids = (b"%s-%x" % (prefix, number) for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        front, path = self._front, scope["path"]
        exchange = Exchange(scope, receive, send, self._now(), next(self._ids), front)
        scope["exchange"] = exchange
        self._patience.watch(exchange)
        outcome = None
        try:
            if self._keys and path not in _OPEN_ROUTES:
                exchange.caller = check_key(exchange.headers, self._keys)
            hot = self._hot.get(path)
            if hot is not None and scope["method"] == "POST":
                await hot(scope, receive, send)
            else:
                await self._app(scope, receive, exchange.send)
        except Exception as error:
            outcome = await self._no_result(exchange, path, error)
        except asyncio.CancelledError:
            why = exchange.interruption()
            if why is None:
                outcome = "cancelled"
                raise
            outcome = await self._no_result(exchange, path, why)
        finally:
            del scope["exchange"]  # it knows the server's end of the request, which knows the scope
            self._patience.ended(exchange)
            seconds = self._now() - exchange.started
            if outcome is None:
                outcome = "ok" if exchange.status == 200 else outcome_of(exchange.status)
            front.tally.observe(path, outcome, seconds)

    async def _no_result(self, exchange: Exchange, path: str, error: Exception) -> str | None:
        """Answers with the error; returns the outcome where there is nobody to answer."""
        front = self._front
        request_id = exchange.request_id.decode()
        if isinstance(error, Disconnected):
            return "cancelled"
        if exchange.status:
            raise RuntimeError(f"request {request_id} failed in mid-answer") from error
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, BatcherError):
            problem = problem_of(error)
            if problem.status == 500 or isinstance(error, WorkerLost):
                _log.warning("request %s: %s", request_id, error)
        else:
            _log.error("request %s failed", request_id, exc_info=error)
            problem = internal()
        body = orjson.dumps(self._envelope_of(path)(problem, request_id))
        await exchange.answer(body, *problem.headers(front.draw), status=problem.status)
        return None


async def raise_again(_request: object, error: Exception) -> None:
    """Whatever is raised inside Starlette's layers is answered by ours."""
    if isinstance(error, HTTPException):
        said = _SAID.get(error.status_code, error.detail)
        raise Problem(error.status_code, said, headers=error.headers)
    try:
        raise error
    finally:
        del error  # it will know this frame: a ring


_SAID = {404: "there is no such route (GET /openapi.json lists them)"}
