"""The simulated accelerator with more ways to fail, for BATCHER_RUNNER. Lives in the worker.

Inputs that begin with `fault:` ask for them, beside those that the simulated runner knows itself.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from service.models import RunnerConfig
from service.models.simulated import SimulatedRunner, drill_of

SLOW_SECONDS = 3.0
SLOWER = 10.0
DOUBLE_SECONDS = 3.0


def marker(service_pid: int) -> Path:
    """While this file exists, no worker of that service can start."""
    return Path(tempfile.gettempdir(), f"loadtests-chaos-{service_pid}-no-start")


class Drilled:
    """`short`, `long`, `shape`, `text`: wrong results. `garbage`, `truncated`: a broken frame.
    `slow`: ten times slower for 3 s. `twice`: each reply is sent twice for 3 s. `sticky`: every
    batch raises from then on, as after an error that a device does not recover from. `no-memory`:
    out of memory at any batch size."""

    def __init__(self, config: RunnerConfig) -> None:
        self._config = config
        self._inner = SimulatedRunner(config)
        self._slow_until = 0.0
        self._sticky = False

    def warm_up(self) -> Mapping[str, object]:
        if marker(os.getppid()).exists():
            raise RuntimeError("injected: the model cannot be loaded")
        return self._inner.warm_up()

    def run(self, payloads: Sequence[str]) -> Sequence[Any]:
        drills = {drill_of(text) for text in payloads}
        if "sticky" in drills or self._sticky:
            self._sticky = True
            raise RuntimeError("CUDA error: device-side assert triggered")
        if "no-memory" in drills:
            raise MemoryError("injected: out of memory at any size")
        if "slow" in drills:
            self._slow_until = time.monotonic() + SLOW_SECONDS
        if time.monotonic() < self._slow_until:
            time.sleep((SLOWER - 1) * self._inner.duration(payloads))
        if "garbage" in drills:
            _channel().send_bytes(b"\x80\x05this is no message")
        if "truncated" in drills:
            os.write(_channel().fileno(), b"\x00\x00\x10\x00only so much")
            os._exit(1)
        if "twice" in drills:
            _send_twice(_channel())
        results = self._inner.run(payloads)
        return _spoilt(results, drills)

    def close(self) -> None:
        self._inner.close()


def _spoilt(results: Sequence[Any], drills: set[str]) -> Sequence[Any]:
    if "short" in drills:
        return results[:-1]
    if "long" in drills:
        return [*results, results[0]]
    if "shape" in drills:
        return [[[1.0], [2.0, 3.0]] for _ in results]
    if "text" in drills:
        return "a text, no sequence of results"
    return results


def _channel() -> Connection:
    """The worker's end of the socket pair: a local of the worker's main loop, which called us."""
    frame = sys._getframe()
    while frame is not None:
        for one in frame.f_locals.values():
            if isinstance(one, Connection) and not one.closed and one.readable and one.writable:
                return one
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    raise LookupError("the worker's channel is not where it was: mend this drill")


def _send_twice(channel: Connection) -> None:
    once, until = channel.send_bytes, time.monotonic() + DOUBLE_SECONDS

    def twice(message: bytes) -> None:
        once(message)
        if time.monotonic() < until:
            once(message)

    channel.send_bytes = twice  # type: ignore[method-assign,assignment]  # sabotage
