"""The engine in a process of its own: queue, batching threads and workers, for all frontends."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvloop

from batcher.clock import MonotonicClock
from service.observability.whole_service import FrontendRegistry
from service.placement.layout import Layout
from service.processes.banner import banner
from service.processes.build import make_engine, start_engine
from service.processes.child import next_message
from service.processes.control_channel import LONGEST_TEXT, ControlChannel
from service.processes.exit_codes import CRASHED, NO_MODEL, OK
from service.processes.terminal import one_line
from service.settings import Settings

_log = logging.getLogger("service")


Shared = tuple[Layout, int]  # where the replicas run, and the port that the frontends listen on


def main(end: socket.socket, settings: Settings, shared: Shared, frontends: int) -> int:
    """Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(end, settings, shared, frontends))


async def _run(end: socket.socket, settings: Settings, shared: Shared, frontends: int) -> int:
    return await _EngineProcess(end, settings, shared, frontends).run()


class _EngineProcess:
    def __init__(
        self, end: socket.socket, settings: Settings, shared: Shared, frontends: int
    ) -> None:
        layout, self._port = shared
        self._settings = settings
        self._count = frontends
        self._engine = make_engine(settings, layout, MonotonicClock())
        self._frontends = FrontendRegistry(self._engine.entrance, frontends)
        self._control = ControlChannel(end)
        self._is_closing = False

    async def run(self) -> int:
        """It takes calls from the first moment, and says that the model is loading."""
        controlling = asyncio.create_task(self._serve_control(), name="control")
        loading = asyncio.create_task(self._load(), name="load")
        crashing = asyncio.create_task(self._engine.crashed(), name="crash")
        tasks = (controlling, loading, crashing)
        try:
            await asyncio.wait((controlling, loading), return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and not self._is_closing and (problem := loading.exception()):
                self._control.send("failed", one_line(problem)[:LONGEST_TEXT])
                return NO_MODEL
            await asyncio.wait((controlling, crashing), return_when=asyncio.FIRST_COMPLETED)
            if not controlling.done():
                _log.critical("a batching thread has failed", exc_info=crashing.result())
                return CRASHED
            controlling.result()
            return OK
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._engine.close()
            await self._frontends.close()
            self._control.close()

    async def _serve_control(self) -> None:
        while True:
            kind, value, end = await next_message(self._control)
            if kind == "frontend":
                assert end is not None
                await self._frontends.join(value, end)
            elif kind == "drain":
                self._control.send("drained", await self._engine.drain())
            elif kind == "close":
                self._is_closing = True  # a model that is being loaded is no longer waited for
                await self._engine.close()
                self._control.send("closed")
            elif kind == "end":
                return

    async def _load(self) -> None:
        settings = self._settings
        served, snapshot = await start_engine(self._engine, settings, lambda served: None)
        self._control.send("up", banner(settings, served, snapshot, self._port, self._count))
