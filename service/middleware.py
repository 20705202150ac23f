"""The only middleware: id, clock, key, metrics, and an answer whatever happens. For every route."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os

import orjson
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from batcher import BatcherError
from service.api import openai, tei
from service.errors import Problem, internal, outcome_of, problem_of
from service.exchange import Exchange
from service.front import Front
from service.limits import Disconnected, check_key

_log = logging.getLogger(__name__)
_OPEN_ROUTES = frozenset({"/health", "/health/live", "/health/ready"})  # no key asked


class ExchangeMiddleware:
    def __init__(self, app: ASGIApp, front: Front) -> None:
        self._app = app
        self._front = front
        self._now = front.clock.now
        key = front.settings.api_key
        self._key = None if key is None else key.get_secret_value().encode()
        # Unique without asking the kernel for randomness with every request.
        prefix = os.urandom(6).hex().encode()
        self._ids = (b"%s-%x" % (prefix, number) for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        front = self._front
        exchange = Exchange(scope, send, self._now(), next(self._ids), front.stopping)
        scope["exchange"] = exchange
        outcome = None
        try:
            if self._key is not None and scope["path"] not in _OPEN_ROUTES:
                check_key(exchange.headers, self._key)
            await self._app(scope, receive, exchange.send)
        except Problem as problem:
            await self._refuse(exchange, scope, problem)
        except BatcherError as error:
            await self._refuse(exchange, scope, problem_of(error))
        except Disconnected:
            outcome = "cancelled"
        except Exception:
            _log.exception("request %s failed", exchange.request_id.decode())
            await self._refuse(exchange, scope, internal())
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            seconds = self._now() - exchange.started
            front.tally.observe(scope["path"], outcome or outcome_of(exchange.status), seconds)

    async def _refuse(self, exchange: Exchange, scope: Scope, problem: Problem) -> None:
        if exchange.status:
            raise RuntimeError("failed in the middle of an answer") from problem
        request_id = exchange.request_id.decode()
        envelope = openai.envelope if scope["path"].startswith("/v1/") else tei.envelope
        body = orjson.dumps(envelope(problem, request_id))
        await exchange.answer(body, problem.headers(), problem.status)


async def on_http_exception(_request: object, error: Exception) -> None:
    """Starlette's own 404 and 405, on their way to the envelope of their route."""
    assert isinstance(error, HTTPException)
    raise Problem(
        error.status_code, _SAID.get(error.status_code, error.detail), headers=error.headers
    )


_SAID = {404: "there is no such route (GET /openapi.json lists them)"}
