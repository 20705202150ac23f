"""The life of the service: listen, load, serve, drain, end. Owns signals and exit codes.

The socket listens from the first moment; the model loads behind it, and readiness says when.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
import uvloop

from batcher import Engine
from batcher.clock import MonotonicClock
from service import flags
from service import settings as table
from service.app import create_app
from service.banner import banner
from service.connection import Connection
from service.connections import Connections, Patience
from service.descriptors import room_for
from service.front import Front
from service.placing import Layout, lay_out
from service.replicas import Refused
from service.serving import find_served, runner_factories
from service.settings import Settings

OK, BAD_SETTING, NO_MODEL, NO_PORT, CRASHED = 0, flags.BAD_SETTING, 3, 4, 70

_log = logging.getLogger("service")
_BACKLOG = 2048  # connections that may wait to be accepted
_SAME_SIGNAL = 0.05  # seconds; `timeout` and some shells send one signal twice, to us and the group
_WRITE_TIMEOUT = 5  # seconds that a client may take to read its answer once all are given


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = vars(flags.parser().parse_args(arguments))
    print_config = options.pop("print_config")
    try:
        settings = table.load(options)
    except table.BadSetting as error:
        print(f"batcher: {error}", file=sys.stderr)
        return BAD_SETTING
    effective = table.effective(settings, options)
    if print_config:
        print("\n".join(effective))
    else:
        _log_to_stderr()
        _log.info("configuration: %s", "  ".join(effective))
    try:
        layout = lay_out(settings)
    except Refused as error:
        print(f"batcher: {error}", file=sys.stderr)
        return NO_MODEL
    if print_config:
        print("\n".join(layout.lines()))
        return OK
    for line in (*layout.lines(), *layout.remarks):
        _log.info("%s", line)
    try:
        listener = _listen(settings)
    except table.BadSetting as error:
        print(f"batcher: {error}", file=sys.stderr)
        return BAD_SETTING
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        print(f"batcher: cannot listen on {where}: {error.strerror or error}", file=sys.stderr)
        return NO_PORT
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Service(settings, listener, layout).run())


class Server(uvicorn.Server):
    """uvicorn with our connections, and without its signal handlers: ours drain before it stops."""

    def __init__(self, front: Front, bound: int, patience: Patience | None = None) -> None:
        self.ours = Connections(front.tally, bound, patience)
        protocol: Any = functools.partial(Connection, self.ours)  # called as the class would be
        super().__init__(
            uvicorn.Config(
                create_app(front),
                loop="uvloop",
                http=protocol,
                ws="none",
                lifespan="on",
                backlog=_BACKLOG,
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_WRITE_TIMEOUT,
            )
        )

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


class _Service:
    def __init__(self, settings: Settings, listener: socket.socket, layout: Layout) -> None:
        clock = MonotonicClock()
        self._settings = settings
        self._listener = listener
        self._engine = Engine(
            runner_factories(settings, layout),
            limits=settings.limits,
            isolation=settings.isolation,
            request_timeout=settings.deadline,
            drain_timeout=settings.drain_timeout_ms / 1e3,
            clock=clock,
        )
        self._front = Front(settings, self._engine, clock)
        self._server = Server(self._front, room_for(settings.max_connections))
        self._stop = asyncio.Event()
        self._signalled = 0.0  # on the loop's clock
        self._drain_delay = 0.0  # seconds

    async def run(self) -> int:
        try:
            return await self._live()
        except Exception:
            _log.critical("the service has failed and is ending", exc_info=True)
            return CRASHED
        finally:  # whatever happened: a thread or a worker that is left would keep the process
            await self._engine.close()
            self._front.close()
            self._server.ours.hangups.close()
            self._listener.close()

    async def _live(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        serving = asyncio.create_task(self._serve(), name="http")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        loading = asyncio.create_task(self._load(), name="load")
        crashing = asyncio.create_task(self._engine.crashed(), name="crash")
        await _first(loading, stopping, serving)
        problem = loading.exception() if loading.done() else None
        if problem is None and loading.done():
            await _first(stopping, crashing, serving)
            if self._drain_delay:  # nobody sends new requests here once all know that we end
                await _first(crashing, serving, timeout=self._drain_delay)
        self._front.stopping = True
        grace = await self._server.refuse_connections()
        if problem is None and loading.done():
            drained, _ = await asyncio.gather(self._engine.drain(), asyncio.sleep(grace))
            if not drained:
                _log.error("not all accepted requests were answered within the drain timeout")
        for task in (loading, stopping, crashing):
            task.cancel()
        await self._engine.close()
        ended_by_itself = not self._stop.is_set()
        self._server.should_exit = True
        [http_problem] = await asyncio.gather(serving, return_exceptions=True)
        if http_problem is not None:
            _log.error("the HTTP server failed", exc_info=http_problem)
        if problem is not None:
            print(f"batcher: the model cannot be loaded: {_in_one_line(problem)}", file=sys.stderr)
            return NO_MODEL
        _log.info("ended")
        return CRASHED if ended_by_itself else OK

    async def _serve(self) -> None:
        try:
            await self._server.serve([self._listener])
        except SystemExit as error:  # uvicorn's, where the application does not start
            raise RuntimeError(f"the HTTP server did not start (exit {error.code})") from None

    async def _load(self) -> None:
        started = time.monotonic()
        self._front.served = await find_served(self._settings)
        canary = self._front.model().preparer.prepare("ok", truncate=True)
        await self._engine.start(
            canary=canary.payload, canary_interval=self._settings.canary_interval
        )
        self._front.client = self._engine.client  # the engine's own submit_all only forwards
        snapshot = await self._engine.snapshot()
        gc.collect()
        gc.freeze()  # what lives for ever need not be walked over by every later collection
        # Requests make no cycles: what waits is no reason to collect before it is this much.
        gc.set_threshold(50_000)
        port = self._listener.getsockname()[1]
        _print(banner(self._front, snapshot, port))
        _log.info("ready after %.1f s", time.monotonic() - started)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        now = asyncio.get_running_loop().time()
        if self._stop.is_set() and now - self._signalled < _SAME_SIGNAL:
            return
        self._signalled = now
        if self._stop.is_set():
            _log.warning("%s again: ending at once", name)
            for worker in multiprocessing.active_children():
                worker.kill()
            os._exit(128 + number)
        if number == signal.SIGTERM:  # from the keyboard nobody waits for load balancers
            self._drain_delay = self._settings.drain_delay_ms / 1e3
        after = f"in {self._drain_delay:g} s " if self._drain_delay else ""
        _log.info("%s: %srefusing new requests, answering the accepted ones", name, after)
        self._front.stopping = True
        self._stop.set()


def _copy(listener: asyncio.base_events.Server) -> socket.socket:
    made = socket.socket(fileno=os.dup(listener.sockets[0].fileno()))
    made.setblocking(False)
    return made


async def _first(*tasks: asyncio.Task[object], timeout: float | None = None) -> None:
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _listen(settings: Settings) -> socket.socket:
    """Raises BadSetting for a host that is none, OSError where it cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: an empty or overlong label
        why = error.strerror if isinstance(error, socket.gaierror) else "no valid name"
        raise table.BadSetting(
            f"BATCHER_HOST={settings.host!r}: must be an address or a name that resolves to one"
            f" ({why})"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)  # SO_REUSEADDR lets two bind; only one may listen
    except OSError:
        listener.close()
        raise
    return listener


def _print(text: str) -> None:
    """To stdout, whoever may have closed it: a service runs on without its banner."""
    try:
        print(text, flush=True)
    except (OSError, UnicodeError) as error:
        _log.warning("the banner cannot be printed: %s", _in_one_line(error))
        # What is left in the buffer goes nowhere: Python's own flush at exit would fail on it.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its life is ours to tell
