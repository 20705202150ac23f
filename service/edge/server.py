"""The HTTP server of one process: uvicorn, with our connections and our end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from service.app import create_app
from service.edge.connection import Connection
from service.edge.connections import Connections, Patience
from service.edge.sockets import BACKLOG
from service.state import AppState

_WRITE_TIMEOUT = 5  # seconds that a client may take to read its answer once all are given


class Server(uvicorn.Server):
    """uvicorn with our connections, and without its signal handlers: ours drain before it stops."""

    def __init__(self, front: AppState, bound: int, patience: Patience | None = None) -> None:
        self.ours = Connections(front.tally, bound, patience)
        protocol: Any = functools.partial(Connection, self.ours)  # called as the class would be
        super().__init__(
            uvicorn.Config(
                create_app(front),
                loop="uvloop",
                http=protocol,
                ws="none",
                lifespan="on",
                backlog=BACKLOG,
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_WRITE_TIMEOUT,
            )
        )

    async def run_on(self, listener: socket.socket) -> None:
        """Until `should_exit`. Raises RuntimeError where the application does not start."""
        try:
            await self.serve([listener])
        except SystemExit as error:  # uvicorn's own way to say so
            raise RuntimeError(f"the HTTP server did not start (exit {error.code})") from None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def refuse_connections(self) -> float:
        """Takes no new ones and closes the idle ones. Returns for how many seconds those that have
        only just come may still send the request that they came for."""
        if self.started:
            for listener in self.servers:
                with _copy(listener) as waiting:
                    listener.close()
                    await self._take_all(waiting)
        self.ours.close_idle()
        return self.ours.newcomers_wait()

    async def _take_all(self, waiting: socket.socket) -> None:
        """Those that the kernel has taken already: with the last listener it would reset them."""
        config, loop = self.config, asyncio.get_running_loop()
        protocol: Any = config.http_protocol_class
        make = functools.partial(
            protocol,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        with contextlib.suppress(BlockingIOError):  # there is none left
            while True:
                try:
                    taken, _ = waiting.accept()
                except ConnectionAbortedError:  # it has gone again
                    continue
                taken.setblocking(False)
                await loop.connect_accepted_socket(make, taken)


def _copy(listener: asyncio.base_events.Server) -> socket.socket:
    made = socket.socket(fileno=os.dup(listener.sockets[0].fileno()))
    made.setblocking(False)
    return made
