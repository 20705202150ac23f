"""One HTTP request and its answer, as endpoints and the middleware share it.

An exchange that takes longer than PATIENCE is looked after: its body must arrive within the receipt
deadline, and its client must still be there while its inputs wait. The others pay nothing for that.
"""

from __future__ import annotations

import asyncio
import re
from typing import Literal, Protocol

from starlette.types import Receive, Scope, Send

from batcher import Draining
from service.errors import Header, Problem

PATIENCE = 0.1  # seconds
RECEIPT_TIMEOUT = 10.0  # seconds, for the whole body

WHOLE = "http.response.whole"
"""A message, and the extension by which a server says that it takes it: status, headers and body at
once. Head and body by themselves cost a server of Python twice as much."""
TASK = "service.task"
"""The key in the scope, if the server says it, of the task that this runs in. To ask for that takes
a microsecond."""

_OWN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON = b"application/json"


Phase = Literal["receiving", "waiting", "other"]
"""The body comes in; the inputs wait for the engine or run; all else."""


class Stopping(Protocol):
    """Whether a signal has come: clients are then told to come back on another connection."""

    stopping: bool


class Disconnected(Exception):
    """The client has gone: nobody is left to answer."""


class Exchange:
    # On the class: what most exchanges never change costs them nothing.
    status = 0  # 0: no answer has begun
    phase: Phase = "other"
    is_slow = False
    ended = False
    _why: Exception | None = None  # the task was cancelled, if we did it
    _looking: asyncio.TimerHandle | asyncio.Task[None] | None = None

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
        self._takes_whole = WHOLE in scope.get("extensions", ())
        self._task: asyncio.Task[None] | None = scope.get(TASK) or asyncio.current_task()

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        if self.is_slow:
            self._look_after()

    # Answering

    async def answer(
        self, body: bytes, *headers: Header, status: int = 200, media: bytes = _JSON
    ) -> None:
        self.status = status
        size = (b"content-length", b"%d" % len(body))
        all_ = [(b"content-type", media), size, *self._own_headers(), *headers]
        if self._takes_whole:
            await self._send({"type": WHOLE, "status": status, "headers": all_, "body": body})
            return
        await self._send({"type": "http.response.start", "status": status, "headers": all_})
        await self._send({"type": "http.response.body", "body": body})

    def _own_headers(self) -> list[Header]:
        if self._front.stopping:  # now, and not when the request came
            return [(b"x-request-id", self.request_id), (b"connection", b"close")]
        return [(b"x-request-id", self.request_id)]

    # Being slow

    def became_slow(self) -> None:
        self.is_slow = True
        self._look_after()

    def interruption(self) -> Exception | None:
        """Why the task was cancelled, if we know; the cancelling is then taken back."""
        if self._why is None and self._front.stopping:  # the server's patience has ended
            self._why = Draining("the service is shutting down", retry_after=1.0)
        if self._why is None or self._task is None or self._task.uncancel():
            return None
        return self._why

    def end(self) -> None:
        self.ended = True
        if self.is_slow:
            self.enter("other")

    def _look_after(self) -> None:
        """Exactly what the phase asks for, and nothing of the phase before."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        loop = asyncio.get_running_loop()
        if self.phase == "receiving":
            rest = RECEIPT_TIMEOUT - PATIENCE
            self._looking = loop.call_later(rest, self._interrupt, _too_slow())
        elif self.phase == "waiting":
            self._looking = loop.create_task(self._watch_client())

    async def _watch_client(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass  # the body has been read: nothing else comes
        self._interrupt(Disconnected())

    def _interrupt(self, why: Exception) -> None:
        self._why = why
        if self._task is not None:
            self._task.cancel()


def _too_slow() -> Problem:
    return Problem(
        408,
        f"the body did not arrive within {RECEIPT_TIMEOUT:g} s",
        headers={"connection": "close"},
    )
