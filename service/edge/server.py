"""The HTTP server of one process: uvicorn with our connections, and an end that loses none.

server = Server(app, max_connections, envelope_of, on_refusal)
await server.run_on(listener)           # until `stop()`
await server.refuse_connections()       # before that: no new ones
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from service.edge.certificate import Certificate
from service.edge.connection import Connection
from service.edge.connections import Connections, ConnectionTimeouts
from service.edge.handshake import Handshake
from service.edge.sockets import BACKLOG
from service.errors import Envelope, Problem

_WRITE_TIMEOUT = 5  # seconds that clients get to read their responses once all are given


class Server(uvicorn.Server):
    """Without uvicorn's signal handlers: ours drain before it stops."""

    def __init__(
        self,
        app: ASGIApp,
        max_connections: int,
        envelope_of: Callable[[str], Envelope],
        on_refusal: Callable[[Problem, str, str], object],
        timeouts: ConnectionTimeouts | None = None,
        certificate: Certificate | None = None,
        cors_origins: Sequence[str] = (),
    ) -> None:
        """`on_refusal(problem, request id, client)` counts and logs an answer before the app.
        `certificate`: for TLS."""
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=self.make_connection,  # type: ignore[arg-type]  # called as the class would be
                ws="none",
                lifespan="on",
                backlog=BACKLOG,
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # each response has one of ours
                timeout_graceful_shutdown=_WRITE_TIMEOUT,
            )
        )
        self._exit = asyncio.Event()
        self._certificate = certificate
        self.connections = Connections(
            max_connections,
            timeouts or ConnectionTimeouts(),
            envelope_of,
            on_refusal,
            self.server_state,
            cors_origins,
        )

    def make_connection(
        self, *, config: uvicorn.Config, app_state: dict[str, Any], **_unused: object
    ) -> Connection | Handshake:
        """uvicorn's contract with a protocol class: called with its configuration, the state of the
        lifespan, its own state (connections.ServerState) and a loop. It takes the protocol's
        `shutdown`, and nothing else."""
        connection = Connection(self.connections, config.loaded_app, app_state)
        if self._certificate is None:
            return connection
        return Handshake(self.connections, self._certificate, connection)

    async def run_on(self, listener: socket.socket) -> None:
        """Until `stop()`. Raises RuntimeError where the application does not start."""
        try:
            await self.serve([listener])
        except SystemExit as error:  # uvicorn's own way to say so
            raise RuntimeError(f"the HTTP server did not start (exit code {error.code})") from None
        finally:
            self.connections.hangups.close()

    def stop(self) -> None:
        self.should_exit = True
        self._exit.set()

    async def main_loop(self) -> None:
        """uvicorn's wakes ten times a second, to see whether it is to end and what the date is."""
        await self._exit.wait()

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
                    await self._accept_all(waiting)
        self.connections.close_idle()
        return self.connections.grace()

    async def _accept_all(self, waiting: socket.socket) -> None:
        """Those in the backlog: the kernel would reset them with the last listener."""
        loop = asyncio.get_running_loop()
        make = functools.partial(
            self.make_connection, config=self.config, app_state=self.lifespan.state
        )
        with contextlib.suppress(BlockingIOError):  # there is none left
            while True:
                try:
                    accepted, _ = waiting.accept()
                except ConnectionAbortedError:  # it has gone again
                    continue
                accepted.setblocking(False)
                await loop.connect_accepted_socket(make, accepted)


def _copy(listener: asyncio.base_events.Server) -> socket.socket:
    made = socket.socket(fileno=os.dup(listener.sockets[0].fileno()))
    made.setblocking(False)
    return made
