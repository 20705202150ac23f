"""One HTTP request and its response, as its endpoint sees it; and the middleware around every
endpoint: id, clock, key, metrics, and an answer whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from batcher import BatcherError, Draining, WorkerLost
from batcher.timeouts import TimeoutQueue
from service.errors import (
    ErrorFormat,
    Header,
    InputError,
    Problem,
    WrongTask,
    internal,
    outcome_of,
    problem_of,
)
from service.http import body as bodies
from service.http.access_log import AccessLog, HandledRequest
from service.http.auth import Headers, check_key
from service.http.body import LARGE, Parser, Result, check_media, is_object, parse, too_large
from service.http.content_coding import coding_of, decode
from service.http.headers import DEFAULT_PRIORITY, MESH_TIMEOUT, TIMEOUT, priority_of, timeout
from service.http.supervision import SLOW_AFTER, Disconnected, Phase, Supervision
from service.http.surroundings import HttpCounts, Service

_log = logging.getLogger(__name__)
_OWN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = b"application/json"

EXCHANGE = "exchange"
"""The key in the scope, on the way through Starlette's router."""


class Exchange:
    # On the class: what most exchanges never change costs them nothing.
    status = 0  # 0: no response has begun
    error_code = ""  # of the problem that it is answered with
    error_format: ErrorFormat | None = None  # of its body's protocol; None: of its path's
    phase: Phase = "other"
    priority = DEFAULT_PRIORITY
    held = 0  # bytes that its body and its answer take, if they are large
    task: asyncio.Task[None] | None = None  # that answers it
    supervision: Supervision | None = None  # once it is slow

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,  # on the engine's clock
        fresh_id: bytes,
        service: Service,
    ) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        own_id = self.headers.get(b"x-request-id")
        self.request_id = own_id if own_id and _OWN_ID.fullmatch(own_id) else fresh_id
        self.started = started
        self.timeout = service.request_timeout  # seconds from there
        peer = scope.get("client")
        self.client: str = peer[0] if peer else ""  # its address; empty: not known
        # Whose share of the engine this takes: a key by its number, else the client by its address.
        self.caller: str | None = self.client or None
        self.receive = receive
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self._send = send
        self._service = service
        self.limit = service.max_body_bytes

    async def json(self, parser: Parser = parse) -> dict[str, Any]:
        """The body, an object; `timeout` and `priority` are what the headers say from then on.
        Raises Problem 400, 408, 413 or 415; Overloaded or DeadlineExceeded if it is large."""
        if self.headers.get(b"content-type") != _JSON:
            check_media(self.headers)
        data = await self.read()
        if len(data) > LARGE:
            return await self._parse(data, parser)
        if parser is not parse:
            return parser(data)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            return parse(data)  # says what is wrong with it
        return body if type(body) is dict else parse(data)

    async def json_or_bytes(self) -> dict[str, Any] | bytes:
        """As json(), where the body begins as an object does, as no image does. What Content-Type
        says is of no matter: clients send a wrong one, or none."""
        if not is_object(data := await self.read()):
            return data
        return await self._parse(data, parse) if len(data) > LARGE else parse(data)

    async def _parse(self, data: bytes, parser: Parser) -> dict[str, Any]:
        await bodies.weigh(self, data)
        async with self._service.large_bodies.parsing:
            return await self.offload(parser, data)

    async def read(self) -> bytes:
        """The body, decoded; else as json()."""
        headers, limit = self.headers, self.limit
        coding = coding_of(headers) if b"content-encoding" in headers else None
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)  # before a byte of it is read
        self.enter("receiving")
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            data: bytes = message["body"]
        else:
            data = await bodies.read_on(message, self.receive, limit, self.hold)
        if len(data) > limit:
            raise too_large(limit)
        self.enter("waiting")  # for the engine, until it is answered
        if TIMEOUT in headers or MESH_TIMEOUT in headers:
            self.timeout = timeout(headers, self.timeout)
        if self.supervision is not None and TIMEOUT not in headers:
            self.timeout += self.supervision.seconds  # that the client's line has taken
        if b"priority" in headers:
            self.priority = priority_of(headers)
        if coding is not None:
            data = await self.offload(decode, data, coding, limit)
            self.hold(len(data))
        return data

    def hold(self, size: int) -> None:
        """Raises Overloaded."""
        self._service.large_bodies.take(size, self.caller)
        self.held += size

    async def offload(self, function: Callable[..., Result], *arguments: Any) -> Result:
        deadline = self.started + self.timeout
        return await self._service.offload.run(deadline, function, *arguments, caller=self.caller)

    async def answer(
        self, body: bytes, *headers: Header, status: int = 200, media: bytes = _JSON
    ) -> None:
        if is_large := len(body) > LARGE:
            self.hold(len(body))  # until it is read, which may take long
        self.status = status
        self.enter("other")
        lines = [
            (b"content-type", media),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id),
            *headers,
        ]
        if self._service.stopping:  # now, and not when the request came
            lines.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": lines})
        if is_large:
            await bodies.send_large(body, self._send)
        else:
            await self._send({"type": "http.response.body", "body": body})

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        if self.supervision is not None:
            self.supervision.enter(phase)

    def become_slow(self) -> None:
        self.supervision = Supervision(self)
        self.supervision.enter(self.phase)

    def interruption(self) -> Exception | None:
        """Why the task was cancelled, if we know; the cancelling is then taken back."""
        reason = self.supervision.reason if self.supervision is not None else None
        if reason is None and self._service.stopping:  # the drain timeout has passed
            reason = Draining("the service is shutting down", retry_after=1.0)
        return None if reason is None or self.task is None or self.task.uncancel() else reason


Endpoint = Callable[[Exchange], Awaitable[None]]


class ExchangeMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Service,
        now: Callable[[], float],
        counts: HttpCounts,
        access_log: AccessLog,
        keys: Sequence[bytes],
        open_routes: Container[tuple[str, str]],  # method and path: they ask for no key
        error_format_of: Callable[[str, Headers], ErrorFormat],  # a path, the request's headers
        exact: Mapping[tuple[str, str], Endpoint],  # by method and path; the app has all others
    ) -> None:
        self._app = app
        self._exact = exact
        self._open_routes = open_routes
        self._error_format_of = error_format_of
        self._service = service
        self._now = now
        self._counts = counts
        self._access_log = access_log
        self._keys = keys
        # Of one event loop at a time. To ask for the running one with every request would be a
        # system call, in Python 3.11.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quick: TimeoutQueue[Exchange] = TimeoutQueue(SLOW_AFTER, Exchange.become_slow)
        # Unique without asking the kernel for randomness with every request.
        prefix = os.urandom(6).hex().encode()
        self._ids = (b"%s-%x" % (prefix, number) for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._now(), next(self._ids), self._service)
        asked = method, path = scope["method"], exchange.path
        # Without a loop, current_task would find a task, and with it the system call each time.
        task = asyncio.current_task(self._loop) if self._loop is not None else None
        exchange.task = task or self._task_on_another_loop()
        self._quick.add(exchange)
        outcome = None
        try:
            if self._keys and asked not in self._open_routes and method != "OPTIONS":
                exchange.caller = check_key(exchange.headers, self._keys)
            endpoint = self._exact.get(asked)
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
            scope.pop(EXCHANGE, None)  # it refers to the server's request, and that to the scope
            self._quick.remove(exchange)
            if exchange.held:
                self._service.large_bodies.give_back(exchange.held, exchange.caller)
            if exchange.supervision is not None:
                exchange.enter("other")
                exchange.supervision = None  # it refers to the exchange
            if outcome is None:
                outcome = "ok" if exchange.status == 200 else outcome_of(exchange.status)
            durations = self._counts.durations.get((path, outcome))
            seconds = self._now() - exchange.started
            if durations is not None:
                durations.observe(seconds)
            else:
                self._counts.observe(path, outcome, seconds)
            if outcome != "ok" or self._access_log.logs_success:
                self._access_log.add(
                    HandledRequest(
                        scope["method"],
                        path,
                        0 if outcome == "cancelled" else exchange.status,
                        exchange.error_code,
                        seconds,
                        exchange.client,
                        exchange.request_id.decode(),
                    )
                )

    def _task_on_another_loop(self) -> asyncio.Task[None] | None:
        self._loop = asyncio.get_running_loop()
        self._quick = TimeoutQueue(SLOW_AFTER, Exchange.become_slow, self._loop)
        return asyncio.current_task(self._loop)

    async def _answer_error(self, exchange: Exchange, error: Exception) -> str | None:
        """Returns the outcome where there is no client to answer."""
        request_id = exchange.request_id.decode()
        if isinstance(error, Disconnected):
            return error.note_in(exchange)
        if exchange.status:
            raise RuntimeError(f"request {request_id} failed in mid-answer") from error
        format = exchange.error_format or self._error_format_of(exchange.path, exchange.headers)
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, BatcherError | InputError | WrongTask):
            problem = problem_of(error, format)
            if problem.status == 500 or isinstance(error, WorkerLost):
                _log.warning("request %s failed: %s", request_id, error)
        else:
            _log.error("request %s failed", request_id, exc_info=error)
            problem = internal()
        exchange.error_code = problem.code
        body = orjson.dumps(format.envelope(problem, request_id))
        await exchange.answer(body, *problem.headers(self._service.jitter), status=problem.status)
        return None
