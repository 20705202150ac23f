"""The simulated accelerator with more ways to fail, for BATCHER_RUNNER. Lives in the worker.

Inputs that begin with `fault:` ask for them, beside those that the simulated runner knows itself.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from batcher.workers.pipe import Pipe
from loadtests.chaos.injections import acknowledge, starts_are_blocked
from service.models import RunnerConfig
from service.models.simulated import SimulatedRunner, fault_of

SLOW_SECONDS = 3.0
SLOWER = 10.0
DOUBLE_SECONDS = 3.0
RESULTS = ("short", "long", "shape", "text")
MESSAGES = ("garbage", "truncated", "twice")


class Drilled:
    """`short`, `long`, `shape`, `text`: wrong results. `garbage`, `truncated`: a broken frame.
    `slow`: ten times slower for 3 s. `twice`: each reply is sent twice for 3 s. `sticky`: every
    batch raises from then on, as after an error that a device does not recover from. `no-memory`:
    out of memory at any batch size. Each is acknowledged when it happens."""

    def __init__(self, config: RunnerConfig) -> None:
        self._inner = SimulatedRunner(config.simulated)
        self._slow_until = 0.0
        self._sticky = False
        self._messages = SpoiltMessages()
        self._messages.install()

    def warm_up(self) -> Mapping[str, object]:
        if starts_are_blocked():
            acknowledge("no-start")
            raise RuntimeError("injected: the model cannot be loaded")
        return self._inner.warm_up()

    def run(self, payloads: Sequence[str]) -> Sequence[Any]:
        drills = {fault_of(text) for text in payloads}
        if "sticky" in drills or self._sticky:
            self._sticky = True
            acknowledge("sticky")
            raise RuntimeError("CUDA error: device-side assert triggered")
        if "no-memory" in drills:
            acknowledge("no-memory")
            raise MemoryError("injected: out of memory at any size")
        if "slow" in drills:
            self._slow_until = time.monotonic() + SLOW_SECONDS
        if time.monotonic() < self._slow_until:
            acknowledge("slow")
            time.sleep((SLOWER - 1) * self._inner.duration(payloads))
        for name in drills.intersection(MESSAGES):
            self._messages.ask(name)
        return _spoilt(self._inner.run(payloads), payloads, drills)

    def close(self) -> None:
        self._inner.close()


class SpoiltMessages:
    """Spoils what this worker sends to its parent, from the next message on."""

    def __init__(self) -> None:
        self._next = ""
        self._twice_until = 0.0

    def install(self) -> None:
        """In place of `Pipe.send`, of all pipes of this process: a worker has one."""
        send = Pipe.send

        def spoilt(pipe: Pipe, data: bytes) -> None:
            asked, self._next = self._next, ""
            if asked == "garbage":
                send(pipe, b"\x80\x05this is no message")
                acknowledge(asked)
            elif asked == "truncated":
                send(pipe, data[: len(data) // 2])
                acknowledge(asked)
                os._exit(1)
            else:
                send(pipe, data)
                if time.monotonic() < self._twice_until:
                    send(pipe, data)
                    acknowledge("twice")

        Pipe.send = spoilt  # type: ignore[method-assign,assignment]  # sabotage

    def ask(self, name: str) -> None:
        if name == "twice":
            self._twice_until = time.monotonic() + DOUBLE_SECONDS
        else:
            self._next = name


def _spoilt(results: Sequence[Any], payloads: Sequence[str], drills: set[str]) -> Sequence[Any]:
    for name in drills.intersection(RESULTS):
        acknowledge(name)
    if "short" in drills:
        return results[:-1]
    if "long" in drills:
        return [*results, results[0]]
    if "shape" in drills:
        # Only its own: nobody could tell that a right number of answers are wrong.
        ragged = [[1.0], [2.0, 3.0]]
        return [
            ragged if fault_of(text) == "shape" else result
            for text, result in zip(payloads, results, strict=True)
        ]
    if "text" in drills:
        return "a text, no sequence of results"
    return results
