"""Engine: collector, batching threads and workers as one thing to start, use, drain and stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from batcher.batching import BatchingThread
from batcher.client import Call, Client, Entrance, LocalClient
from batcher.clock import Clock, MonotonicClock
from batcher.collector import Collector
from batcher.errors import BatcherError, Draining, RunnerFailed
from batcher.limits import Limits
from batcher.request import Answer, BatchReport, Payload
from batcher.runner import RunnerFactory
from batcher.snapshot import Snapshot
from batcher.workers.host import Host, InlineHost
from batcher.workers.process import ProcessHost

_log = logging.getLogger(__name__)

Isolation = Literal["process", "thread"]


class Engine(Client):
    """Batches concurrent calls into few runs of a model. A client of itself, and not of plain data
    alone: of whatever the runner takes and returns, and with isolation "process" pickles.

        async with Engine(MyRunner) as engine:
            vector = await engine.submit("text")

    `runners` makes the runner of one replica, or is one factory per replica. With isolation
    "process" each lives in a spawned process and must pickle; with "thread" in its batching
    thread. `request_timeout` (seconds) is the deadline of requests that bring none;
    `drain_timeout` the longest that leaving the context waits for accepted work; `name` the first
    part of its processes' names.
    """

    collector_type: ClassVar[type[Collector]] = Collector

    def __init__(
        self,
        runners: RunnerFactory | Sequence[RunnerFactory],
        *,
        limits: Limits | None = None,
        isolation: Isolation = "process",
        request_timeout: float = 30.0,
        drain_timeout: float = 30.0,
        clock: Clock | None = None,
        name: str = "worker",
    ) -> None:
        factories = list(runners) if isinstance(runners, Sequence) else [runners]
        if not factories:
            raise ValueError("an engine needs at least one runner")
        self._clock = clock or MonotonicClock()
        self._request_timeout = request_timeout
        self._drain_timeout = drain_timeout
        self._name = name
        self._collector = self.collector_type(limits or Limits(), self._clock, len(factories))
        self._first_starts: list[Future[BatcherError | None]] = [_promise() for _ in factories]
        self._up: Future[None] = _promise()  # the first replica of all
        self._crashed: Future[BaseException] = _promise()
        # Whether the engine ends is decided: until then a model that did not load is left alone.
        self._may_retry = threading.Event()
        self._client: LocalClient | None = None
        self._own: LocalClient | None = None  # that submit and submit_all use
        self._threads = [
            BatchingThread(
                self._collector,
                index,
                self._host(factory, index, isolation),
                on_first_start=functools.partial(self._on_first_start, index),
                on_up=self._on_up,
                on_crash=self._on_crash,
                may_retry=self._may_retry,
            )
            for index, factory in enumerate(factories)
        ]

    # Life

    async def start(self, *, canary: Payload = None, canary_interval: float | None = None) -> None:
        """Returns once a replica is up; others may still be loading.

        Raises RunnerFailed if none of the models can be loaded; close it then too. Where a worker
        has died instead, it is started again until it is up. Binds the engine to the running event
        loop, once. With a `canary_interval` (seconds) a replica that has run nothing for so long
        runs `canary`, to see that it still can.
        """
        if self._client is not None or self._collector.finished:
            raise RuntimeError("an engine starts once")
        loop = asyncio.get_running_loop()
        self._client = LocalClient(self.entrance, loop, self._request_timeout)
        self._own = LocalClient(self.entrance, loop, self._request_timeout, any_value=True)
        if canary_interval is not None:
            self._collector.set_canary_interval(canary_interval)
        for thread in self._threads:
            thread.start(canary)
        up = asyncio.ensure_future(asyncio.wrap_future(self._up))
        first_starts = asyncio.gather(*map(asyncio.wrap_future, self._first_starts))
        try:
            await asyncio.wait((up, first_starts), return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                failures = await first_starts
                if self._no_model_loads() and failures[0] is not None:
                    raise failures[0]
            await up
        finally:
            up.cancel()
            first_starts.add_done_callback(_retrieve)
            first_starts.cancel()

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuses new work and waits for the accepted; returns whether all of it was answered."""
        seconds = self._drain_timeout if timeout is None else timeout
        return await asyncio.to_thread(self._collector.drain, self._clock.now() + seconds)

    async def close(self) -> None:
        """Ends every thread and worker. What was not answered by then gets Draining."""
        await asyncio.to_thread(self._close)

    async def crashed(self) -> BaseException:
        """Returns only if a batching thread fails, which is a bug; the engine is then closed."""
        return await asyncio.wrap_future(self._crashed)

    async def __aenter__(self) -> Self:
        if self._client is not None:  # and it is not closed for being asked twice
            raise RuntimeError("an engine starts once")
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.drain()
        finally:
            await self.close()

    # Client

    async def send(self, call: Call) -> list[Answer]:
        """See Client.submit_all."""
        return await self._started(self._own).send(call)

    async def snapshot(self) -> Snapshot:
        return self.entrance.snapshot()

    async def recent_batches(self) -> list[BatchReport]:
        """See Client.recent_batches."""
        return self.entrance.recent_batches()

    @property
    def client(self) -> LocalClient:
        """Equivalent to a RemoteClient: it takes and returns plain data."""
        return self._started(self._client)

    @property
    def entrance(self) -> Entrance:
        """For who brings it the calls of other processes: see FrontendSession."""
        return self._collector

    def __repr__(self) -> str:
        return f"<Engine {len(self._threads)} replicas, {self._collector!r}>"

    # Inside

    @staticmethod
    def _started(client: LocalClient | None) -> LocalClient:
        if client is None:
            raise RuntimeError("the engine has not been started")
        return client

    def _host(self, factory: RunnerFactory, index: int, isolation: Isolation) -> Host:
        if isolation == "thread":
            return InlineHost(factory)
        return ProcessHost(
            factory, f"{self._name}-{index}", lambda why: self._collector.replica_down(index, why)
        )

    def _close(self) -> None:
        with contextlib.suppress(InvalidStateError):  # whoever waits for the start need not
            self._up.set_exception(Draining("the service has shut down", retry_after=1.0))
        self._collector.close(Draining("the service has shut down", retry_after=1.0))
        # From here on no replica becomes busy. One that still is runs for nobody, or is stuck; one
        # that is down is being started for nothing. The others leave in an orderly way.
        replicas = self._collector.snapshot().replicas
        for thread, replica in zip(self._threads, replicas, strict=True):
            thread.stop(now=replica.busy or not replica.up)
        self._may_retry.set()
        for thread in self._threads:
            thread.join()

    def _on_first_start(self, replica: int, failure: BatcherError | None) -> None:
        self._first_starts[replica].set_result(failure)
        if all(each.done() for each in self._first_starts) and not self._no_model_loads():
            self._may_retry.set()

    def _no_model_loads(self) -> bool:
        """All first starts are over, and the next ones would fail as well."""
        return all(isinstance(each.result(), RunnerFailed) for each in self._first_starts)

    def _on_up(self) -> None:
        self._may_retry.set()
        with contextlib.suppress(InvalidStateError):  # another one was first
            self._up.set_result(None)

    def _on_crash(self, error: BaseException) -> None:
        self._collector.close(
            Draining("the service has failed and is shutting down", retry_after=1.0)
        )
        with contextlib.suppress(InvalidStateError):
            self._up.set_exception(error)
        if not self._crashed.done():
            self._crashed.set_result(error)


def _retrieve(first_starts: asyncio.Future[Any]) -> None:
    """Takes the error of a cancelled gather, which asyncio would log as never retrieved."""
    if not first_starts.cancelled():
        first_starts.exception()


def _promise() -> Future[Any]:
    """A future that a cancelled waiter cannot cancel: the thread that fills it still will."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
