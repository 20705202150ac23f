"""Notices that a client has gone while its inputs wait, so that nobody computes for nobody."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from service.limits import Disconnected

_PATIENCE = 0.1  # seconds; a request that is answered sooner costs a timer and no task


class CancelOnDisconnect:
    """Inside `with`, the client's leaving cancels the task; outside, it is Disconnected."""

    __slots__ = ("_gone", "_receive", "_task", "_timer", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._start)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._gone and kind is asyncio.CancelledError and not self._task.uncancel():
            raise Disconnected

    def _start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the body has been read: nothing else comes
        self._gone = True
        self._task.cancel()
