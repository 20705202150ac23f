"""One HTTP request and its response, as endpoints and the middleware share it.

Requests that take longer than SLOW_AFTER are supervised: the body must arrive within the receipt
timeout, and inputs are withdrawn from the engine once their client has gone. Others pay nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Literal, Protocol

from starlette.types import Receive, Scope, Send

from batcher import Draining
from batcher.timeouts import TimeoutQueue
from service.errors import Header, Problem

SLOW_AFTER = 0.1  # seconds
RECEIPT_TIMEOUT = 10.0  # seconds, for the whole body

Phase = Literal["receiving", "waiting", "other"]
"""The body arrives; the inputs wait for the engine or run; all else."""

_OWN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = b"application/json"


class Stopping(Protocol):
    """Whether a signal has come: clients are then told to come back on another connection."""

    stopping: bool


class Disconnected(Exception):
    """The client has gone: nobody is left to answer."""


class Exchange:
    # On the class: what most exchanges never change costs them nothing.
    status = 0  # 0: no response has begun
    phase: Phase = "other"
    is_slow = False
    task: asyncio.Task[None] | None = None  # that answers it
    _interruption: Exception | None = None  # why its task was cancelled, if it was cancelled here
    _supervision: asyncio.Task[None] | None = None  # of the phase, once it is slow

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,  # on the engine's clock
        fresh_id: bytes,
        front: Stopping,
    ) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        own_id = self.headers.get(b"x-request-id")
        self.request_id = own_id if own_id and _OWN_ID.fullmatch(own_id) else fresh_id
        self.started = started
        # Whose share of the engine this takes: a key by its number, else the peer by its address.
        peer = scope.get("client")
        self.caller: str | None = peer[0] if peer else None
        self.receive = receive
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self._send = send
        self._front = front

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        if self.is_slow:
            self._supervise()

    # Answering

    async def answer(
        self, body: bytes, *headers: Header, status: int = 200, media: bytes = _JSON
    ) -> None:
        self.status = status
        self.enter("other")
        size = (b"content-length", b"%d" % len(body))
        all_ = [(b"content-type", media), size, *self._own_headers(), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_})
        await self._send({"type": "http.response.body", "body": body})

    def _own_headers(self) -> list[Header]:
        if self._front.stopping:  # now, and not when the request came
            return [(b"x-request-id", self.request_id), (b"connection", b"close")]
        return [(b"x-request-id", self.request_id)]

    # Being slow

    def become_slow(self) -> None:
        self.is_slow = True
        self._supervise()

    def interruption(self) -> Exception | None:
        """Why the task was cancelled, if we know; the cancelling is then taken back."""
        if self._interruption is None and self._front.stopping:  # the drain timeout has passed
            self._interruption = Draining("the service is shutting down", retry_after=1.0)
        if self._interruption is None or self.task is None or self.task.uncancel():
            return None
        return self._interruption

    def end(self) -> None:
        if self.is_slow:
            self.enter("other")

    def _supervise(self) -> None:
        """What the phase asks for, instead of what the phase before did."""
        if self._supervision is not None:
            self._supervision.cancel()
            self._supervision = None
        if self.phase == "receiving":
            self._start_supervision(self._limit_receipt())
        elif self.phase == "waiting":
            self._start_supervision(self._watch_client())

    def _start_supervision(self, supervision: Coroutine[object, object, None]) -> None:
        self._supervision = asyncio.get_running_loop().create_task(supervision)

    async def _limit_receipt(self) -> None:
        await asyncio.sleep(RECEIPT_TIMEOUT - SLOW_AFTER)
        self._interrupt(
            Problem(
                408,
                f"the body did not arrive within {RECEIPT_TIMEOUT:g} s",
                headers={"connection": "close"},
            )
        )

    async def _watch_client(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass  # the body has been read: nothing else comes
        self._interrupt(Disconnected())

    def _interrupt(self, reason: Exception) -> None:
        self._interruption = reason
        if self.task is not None:
            self.task.cancel()


class SlowRequests:
    """Makes each request slow that does not end within SLOW_AFTER. Of one event loop at a time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quick: TimeoutQueue[Exchange] = TimeoutQueue(SLOW_AFTER, Exchange.become_slow)

    def begin(self, exchange: Exchange) -> None:
        """From the task that will be interrupted."""
        # To ask for the running loop is a system call, in Python 3.11 with every request.
        exchange.task = asyncio.current_task(self._loop) or self._find_task()
        self._quick.add(exchange)

    def end(self, exchange: Exchange) -> None:
        self._quick.remove(exchange)
        exchange.end()

    def _find_task(self) -> asyncio.Task[None] | None:
        self._loop = asyncio.get_running_loop()
        self._quick = TimeoutQueue(SLOW_AFTER, Exchange.become_slow, self._loop)
        return asyncio.current_task(self._loop)
