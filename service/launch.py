"""The life of the service: listen, load, serve, drain, end. Owns signals and exit codes.

The socket listens from the first moment; the model loads behind it, and readiness says when.
"""

from __future__ import annotations

import argparse
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

import uvicorn
import uvloop

from batcher import BatcherError, Engine, Runner
from batcher.clock import MonotonicClock
from service import settings as table
from service.app import create_app
from service.banner import banner
from service.front import Front, Served
from service.models import RunnerConfig, create_runner
from service.models.folder import ModelNotFound, find_model
from service.models.spec import ModelNotSupported, read_spec
from service.settings import Settings
from service.tokenizing import TextTokenizer, WordCounter
from service.version import version

OK, BAD_SETTING, NO_MODEL, NO_PORT, CRASHED = 0, 2, 3, 4, 70

_log = logging.getLogger("service")
_SAME_SIGNAL = 0.05  # seconds; `timeout` and some shells send one signal twice, to us and the group
_WRITE_TIMEOUT = 5  # seconds that a client may take to read its answer once all are given


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    print_config = options.pop("print_config")
    try:
        settings = table.load(options)
    except table.BadSetting as error:
        print(f"batcher: {error}", file=sys.stderr)
        return BAD_SETTING
    effective = table.effective(settings, options)
    if print_config:
        print("\n".join(effective))
        return OK
    _log_to_stderr()
    _log.info("configuration: %s", "  ".join(effective))
    try:
        listener = _listen(settings)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        print(f"batcher: cannot listen on {where}: {error.strerror or error}", file=sys.stderr)
        return NO_PORT
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Service(settings, listener).run())


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain before it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Service:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        clock = MonotonicClock()
        self._settings = settings
        self._listener = listener
        self._engine = Engine(
            _factories(settings),
            limits=settings.limits,
            isolation=settings.isolation,
            request_timeout=settings.request_timeout_ms / 1e3,
            drain_timeout=settings.drain_timeout_ms / 1e3,
            clock=clock,
        )
        self._front = Front(settings, self._engine, clock)
        self._server = _Server(
            uvicorn.Config(
                create_app(self._front),
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                backlog=2048,
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than the idle time of usual load balancers
                timeout_graceful_shutdown=_WRITE_TIMEOUT,
            )
        )
        self._stop = asyncio.Event()
        self._signalled = 0.0  # on the loop's clock

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        serving = asyncio.create_task(self._server.serve([self._listener]), name="http")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        loading = asyncio.create_task(self._load(), name="load")
        crashing = asyncio.create_task(self._engine.crashed(), name="crash")
        try:
            await _first(loading, stopping, serving)
            if loading.done():
                loading.result()
                await _first(stopping, crashing, serving)
            code = CRASHED if crashing.done() or serving.done() else OK
        except (BatcherError, ModelNotFound, ModelNotSupported) as error:
            print(f"batcher: the model cannot be loaded: {error}", file=sys.stderr)
            code = NO_MODEL
        self._front.stopping = True
        if code == OK and loading.done() and not await self._engine.drain():
            _log.error("not all accepted requests were answered within the drain timeout")
        loading.cancel()
        self._server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        await self._engine.close()
        for task in (stopping, crashing):
            task.cancel()
        _log.info("ended")
        return code

    async def _load(self) -> None:
        started = time.monotonic()
        self._front.served = await asyncio.to_thread(_serve_model, self._settings)
        await self._engine.start()
        self._front.client = self._engine.client  # the engine's own submit_all only forwards
        snapshot = await self._engine.snapshot()
        gc.collect()
        gc.freeze()  # what lives for ever need not be walked over by every later collection
        port = self._listener.getsockname()[1]
        print(banner(self._front, snapshot, port), flush=True)
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
        _log.info("%s: refusing new requests, answering the accepted ones", name)
        self._front.stopping = True
        self._stop.set()


async def _first(*tasks: asyncio.Task[object]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _serve_model(settings: Settings) -> Served:
    created = int(time.time())
    if settings.runner != "transformers":
        return Served(settings.model_id, WordCounter(), "never", created)
    spec = read_spec(find_model(settings.model))
    return Served(
        settings.model_id,
        TextTokenizer.load(spec),
        "model" if spec.normalize else "service",
        created,
        spec.dimension,
        spec.max_length,
        spec.pooling,
    )


def _factories(settings: Settings) -> list[functools.partial[Runner]]:
    replicas = settings.replicas or len(settings.device.split(","))
    return [
        functools.partial(
            create_runner,
            settings.runner,
            RunnerConfig(
                model=settings.model,
                task=settings.task,
                device=settings.device,
                dtype=settings.dtype,
                threads=0 if settings.threads == "auto" else settings.threads,
                replica=replica,
                replicas=replicas,
                sim_fixed_ms=settings.sim_fixed_ms,
                sim_per_item_ms=settings.sim_per_item_ms,
                sim_per_token_us=settings.sim_per_token_us,
            ),
        )
        for replica in range(replicas)
    ]


def _listen(settings: Settings) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="An inference service that batches requests.",
        epilog="Each is also an environment variable: --max-batch-size is BATCHER_MAX_BATCH_SIZE."
        " Flags win.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batcher {version()}")
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective settings and leave"
    )
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" (default: {field.default})"
        help_text = f"{field.description}{default}".replace("%", "%%")
        parser.add_argument(
            table.flag(name), dest=name, help=help_text, metavar="X", default=argparse.SUPPRESS
        )
    return parser


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its life is ours to tell
