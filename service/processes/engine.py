"""The engine in a process of its own: queue, batching threads and workers, for all fronts."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvloop

from batcher.clock import MonotonicClock
from service.observability.whole_service import Fronts
from service.placement.layout import Layout
from service.processes.banner import banner
from service.processes.build import make_engine, start_engine
from service.processes.child import next_order
from service.processes.control_channel import LONGEST_TEXT, Orders
from service.processes.exit_codes import CRASHED, NO_MODEL, OK
from service.processes.terminal import in_one_line
from service.settings import Settings

_log = logging.getLogger("service")


Shared = tuple[Layout, int]  # where the replicas run, and the port that the fronts listen on


def main(end: socket.socket, settings: Settings, shared: Shared, fronts: int) -> int:
    """Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(end, settings, shared, fronts))


async def _run(end: socket.socket, settings: Settings, shared: Shared, fronts: int) -> int:
    return await _EngineProcess(end, settings, shared, fronts).run()


class _EngineProcess:
    def __init__(self, end: socket.socket, settings: Settings, shared: Shared, fronts: int) -> None:
        layout, self._port = shared
        self._settings = settings
        self._count = fronts
        self._engine = make_engine(settings, layout, MonotonicClock())
        self._fronts = Fronts(self._engine.collector, fronts)
        self._orders = Orders(end)
        self._is_closing = False

    async def run(self) -> int:
        """It takes calls from the first moment, and says that the model is loading."""
        obeying = asyncio.create_task(self._obey(), name="orders")
        loading = asyncio.create_task(self._load(), name="load")
        crashing = asyncio.create_task(self._engine.crashed(), name="crash")
        tasks = (obeying, loading, crashing)
        try:
            await asyncio.wait((obeying, loading), return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and not self._is_closing and (problem := loading.exception()):
                self._orders.say("failed", in_one_line(problem)[:LONGEST_TEXT])
                return NO_MODEL
            await asyncio.wait((obeying, crashing), return_when=asyncio.FIRST_COMPLETED)
            if not obeying.done():
                _log.critical("a batching thread has failed", exc_info=crashing.result())
                return CRASHED
            obeying.result()
            return OK
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._engine.close()
            await self._fronts.close()
            self._orders.close()

    async def _obey(self) -> None:
        while True:
            word, value, end = await next_order(self._orders)
            if word == "front":
                assert end is not None
                await self._fronts.join(value, end)
            elif word == "drain":
                self._orders.say("drained", await self._engine.drain())
            elif word == "close":
                self._is_closing = True  # a model that is being loaded is no longer waited for
                await self._engine.close()
                self._orders.say("closed")
            elif word == "end":
                return

    async def _load(self) -> None:
        settings = self._settings
        served, snapshot = await start_engine(self._engine, settings, lambda served: None)
        self._orders.say("up", banner(settings, served, snapshot, self._port, self._count))
