"""One HTTP process of several: connections, parsing, tokenising and answers. The engine is
elsewhere, and may be replaced under it."""

from __future__ import annotations

import asyncio
import logging
import math
import socket

import uvloop

from batcher.clock import MonotonicClock
from batcher.remote.client import RemoteClient
from batcher.remote.messages import Json
from service.app import create_app, envelope_of
from service.edge.certificate import Certificate, CertificateFiles
from service.edge.connections import ConnectionTimeouts
from service.edge.server import Server
from service.edge.sockets import raise_fd_limit
from service.observability.http_counts import as_json
from service.observability.whole_service import RemoteView
from service.processes.build import find_served
from service.processes.child import next_message
from service.processes.control_channel import LONGEST_TEXT, ControlChannel
from service.processes.exit_codes import CRASHED, NO_MODEL, OK
from service.processes.gc_tuning import freeze
from service.processes.terminal import one_line
from service.settings import Settings
from service.state import AppState

_log = logging.getLogger("service")


Shared = tuple[socket.socket, CertificateFiles | None]  # where it listens; None: without TLS


def main(end: socket.socket, settings: Settings, shared: Shared, frontends: int) -> int:
    """Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(end, settings, shared, frontends))


async def _run(end: socket.socket, settings: Settings, shared: Shared, frontends: int) -> int:
    return await _FrontendProcess(end, settings, shared, frontends).run()


class _FrontendProcess:
    def __init__(
        self, end: socket.socket, settings: Settings, shared: Shared, frontends: int
    ) -> None:
        clock = MonotonicClock()
        self._settings = settings
        self._listener, files = shared
        self._client = RemoteClient(clock, settings.deadline, self._asked, self._lost)
        self._state = AppState(
            settings,
            self._client,
            clock,
            frontends=frontends,
            whole_service=RemoteView(self._client),
        )
        share = math.ceil(settings.max_connections / frontends)
        # The supervisor's: the files may be half renewed by now.
        self._certificate = None if files is None else Certificate(files)
        self._server = Server(
            create_app(self._state),
            raise_fd_limit(share),
            envelope_of,
            self._state.on_refusal,
            ConnectionTimeouts(idle=settings.keep_alive_ms / 1e3),
            self._certificate,
            settings.allowed_origins,
        )
        self._control = ControlChannel(end)
        self._link_id: int | None = None  # to the engine, by the number that the supervisor gave it

    async def run(self) -> int:
        serving = asyncio.create_task(self._server.run_on(self._listener), name="http")
        controlling = asyncio.create_task(self._serve_control(), name="control")
        loading = asyncio.create_task(self._load(), name="load")
        try:
            await asyncio.wait((serving, controlling, loading), return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and (problem := loading.exception()) is not None:
                self._control.send("failed", one_line(problem)[:LONGEST_TEXT])
                return NO_MODEL
            await asyncio.wait((serving, controlling), return_when=asyncio.FIRST_COMPLETED)
            ended_by_itself = serving.done()
            self._server.stop()
            [problem] = await asyncio.gather(serving, return_exceptions=True)
            if problem is not None:
                _log.error("the HTTP server failed", exc_info=problem)
            return CRASHED if ended_by_itself else OK
        finally:
            for task in (serving, controlling, loading):
                task.cancel()
            await asyncio.wait((serving, controlling, loading))
            await self._client.close()
            self._state.close()
            self._listener.close()
            self._control.close()

    async def _serve_control(self) -> None:
        while True:
            kind, value, end = await next_message(self._control)
            if kind == "engine":
                assert end is not None
                await self._client.close()  # and whatever that loses goes by the number before
                self._link_id = value
                await self._client.attach(end)
            elif kind == "stopping":
                self._state.stopping = True
            elif kind == "certificate":
                assert self._certificate is not None
                self._certificate.use(CertificateFiles.from_json(value))
                _log.info("new connections get the new TLS certificate")
            elif kind == "refuse":
                self._control.send("refused", await self._server.refuse_connections())
            elif kind == "end":
                return

    async def _load(self) -> None:
        self._state.served = await find_served(self._settings)
        freeze()
        self._control.send("up")

    async def _asked(self, subject: str) -> Json:
        assert subject == "tally", f"asked for {subject}: this is a bug"
        return as_json(self._state.tally.snapshot())

    def _lost(self) -> None:
        # The engine knew what the frontends before this one had counted. A sum that begins anew is
        # understood; one that falls by their share would be taken for as many new requests.
        self._state.tally.clear()
        self._control.send("lost", self._link_id)  # the engine may well live
