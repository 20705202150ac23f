"""One process for all: HTTP, the engine, and signals. The life of the service from load to drain.

The socket listens from the first moment; the model loads behind it, and readiness says when.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import multiprocessing
import socket

import uvloop

from batcher import Engine
from batcher.clock import MonotonicClock
from service.app import create_app, envelope_of
from service.catalog import ServedModel
from service.edge.certificate import Certificate
from service.edge.connections import ConnectionTimeouts
from service.edge.server import Server
from service.edge.sockets import port_of, raise_fd_limit
from service.placement.layout import Layout
from service.processes.banner import banner
from service.processes.build import make_engine, start_engine
from service.processes.exit_codes import CRASHED, NO_MODEL, OK, UNANSWERED
from service.processes.signals import Signals
from service.processes.terminal import one_line, print_banner, print_error
from service.settings import Settings
from service.state import AppState

_log = logging.getLogger("service")


def run(
    settings: Settings, listener: socket.socket, layout: Layout, certificate: Certificate | None
) -> int:
    """Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(SingleProcess(settings, listener, layout, certificate).run())


class SingleProcess:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        layout: Layout,
        certificate: Certificate | None = None,  # for TLS
    ) -> None:
        clock = MonotonicClock()
        self._settings = settings
        self._listener = listener
        self._engine: Engine = make_engine(settings, layout, clock)
        self._state = AppState(settings, self._engine, clock)
        self._certificate = certificate
        self._server = Server(
            create_app(self._state),
            raise_fd_limit(settings.max_connections),
            envelope_of,
            self._state.on_refusal,
            ConnectionTimeouts(idle=settings.keep_alive_ms / 1e3),
            certificate,
            settings.allowed_origins,
        )

    async def run(self) -> int:
        try:
            return await self._live()
        except Exception:
            _log.critical("internal error; shutting down", exc_info=True)
            return CRASHED
        finally:  # whatever happened: a thread or a worker that is left would keep the process
            await self._engine.close()
            self._state.close()
            self._listener.close()

    async def _live(self) -> int:
        delay = self._settings.drain_delay_ms / 1e3
        signals = Signals(delay, self._on_signal, _kill_workers)
        if self._certificate is not None:
            signals.on_hangup(functools.partial(self._certificate.reload, self._settings))
        serving = asyncio.create_task(self._server.run_on(self._listener), name="http")
        stopping = asyncio.create_task(signals.came.wait(), name="stop")
        loading = asyncio.create_task(self._load(), name="load")
        crashing = asyncio.create_task(self._engine.crashed(), name="crash")
        await _first(loading, stopping, serving)
        problem = loading.exception() if loading.done() else None
        drained = True
        if problem is None and loading.done():
            await _first(stopping, crashing, serving)
            if signals.delay:  # nobody sends new requests here once all know that we end
                await _first(crashing, serving, timeout=signals.delay)
        self._state.stopping = True
        grace = await self._server.refuse_connections()
        if problem is None and loading.done():
            drained, _ = await asyncio.gather(self._engine.drain(), asyncio.sleep(grace))
            if not drained:
                _log.error("not all accepted requests were answered within the drain timeout")
        for task in (loading, stopping, crashing):
            task.cancel()
        await self._engine.close()
        ended_by_itself = not signals.came.is_set()
        self._server.stop()
        [http_problem] = await asyncio.gather(serving, return_exceptions=True)
        if http_problem is not None:
            _log.error("the HTTP server failed", exc_info=http_problem)
        if problem is not None:
            print_error(f"the model cannot be loaded: {one_line(problem)}")
            return NO_MODEL
        _log.info("shut down")
        if ended_by_itself:
            return CRASHED
        return OK if drained else UNANSWERED

    async def _load(self) -> None:
        served, snapshot = await start_engine(self._engine, self._settings, self._found)
        self._state.client = self._engine.client  # the engine's own submit_all only forwards
        port = port_of(self._listener)
        print_banner(banner(self._settings, served, snapshot, port))

    def _found(self, served: ServedModel) -> None:
        self._state.served = served

    def _on_signal(self) -> None:
        self._state.stopping = True


def _kill_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


async def _first(*tasks: asyncio.Task[object], timeout: float | None = None) -> None:
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
