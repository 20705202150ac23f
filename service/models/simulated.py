"""The simulated accelerator: takes exactly as long as it is told and computes next to nothing.

For measuring everything around the model, and for drills: inputs that begin with `fault:`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from service.models.config import SimulatedConfig
from service.models.profiling import LENGTHS, grid
from service.models.rows import NotFinite, check_finite
from service.tasks.plain_text import SIMULATED_LABELS

DIMENSION = 8
OOM_FROM = 5  # inputs in a batch
PR_SET_TIMERSLACK = 29


class SimulatedFault(RuntimeError):
    """A drill, asked for by an input."""


class SimulatedRunner:
    """A batch of n inputs, t = n times the most words, takes fixed + per_item·n + per_token·t."""

    def __init__(self, config: SimulatedConfig, task: str = "embed") -> None:
        self._labels = len(SIMULATED_LABELS.get(task, ()))  # 0: it answers vectors
        self._is_sparse = task == "sparse"
        self._fixed = config.fixed_ms / 1e3
        self._per_item = config.per_item_ms / 1e3
        self._per_token = config.per_token_us / 1e6
        self._free_at = 0.0  # when the last batch ends, on time.perf_counter

    def warm_up(self) -> Mapping[str, object]:
        _sharpen_sleep()
        return {
            "model": "simulated",
            "device": "simulated",
            "dtype": "float32",
            **({} if self._labels else {"dimension": DIMENSION}),
            "fixed_ms": self._fixed * 1e3,
            "per_item_ms": self._per_item * 1e3,
            "per_token_us": self._per_token * 1e6,
            "profile": self._profile(),
            "profile_source": "analytic",
        }

    def run(self, payloads: Sequence[str]) -> Sequence[Any]:
        """A float32 matrix (n, 8), or (n, labels); of task sparse the weights of eight words. A
        list with NotFinite in it where a drill asked for that."""
        return self.launch(payloads)()

    def launch(self, payloads: Sequence[str]) -> Callable[[], Sequence[Any]]:
        """As on a device with a queue of its own: it begins with a batch when the one before it
        has ended, whatever the process does meanwhile. Drills happen when the batch is due."""
        drills = [fault_of(text) for text in payloads]
        ends = max(self._free_at, time.perf_counter()) + self.duration(payloads)
        if not any(drills):
            self._free_at = ends
        vectors = answers(payloads)
        if self._labels:
            vectors = vectors[:, : self._labels]

        def finish() -> Sequence[Any]:
            if any(drills):
                _inject_faults(set(drills), len(payloads))
            if (rest := ends - time.perf_counter()) > 0:
                time.sleep(rest)  # the interpreter lock is free meanwhile
            if "nan" in drills:
                vectors[[drill == "nan" for drill in drills], 0] = np.nan
                return self._packed(check_finite(vectors))
            return self._packed(cast(Sequence[Any], vectors))

        return finish

    def _packed(self, vectors: Sequence[Any]) -> Sequence[Any]:
        if not self._is_sparse:
            return vectors
        words = np.arange(DIMENSION, dtype=np.int32)
        return [each if isinstance(each, NotFinite) else (words, np.abs(each)) for each in vectors]

    def duration(self, payloads: Sequence[str]) -> float:
        """Seconds that this batch takes."""
        n = len(payloads)
        seconds = self._fixed + self._per_item * n
        if self._per_token:
            longest = max((count_words(text) for text in payloads), default=0)
            seconds += self._per_token * n * longest
        return seconds

    def _profile(self) -> list[list[float]]:
        times = [
            (n, n * length, self._fixed + self._per_item * n + self._per_token * n * length)
            for n, length in grid(max(LENGTHS))
        ]
        return [list(point) for point in times if point[2] > 0.0]

    def close(self) -> None:
        pass


def count_words(text: str) -> int:
    """The tokens of a text, for this runner. The empty text counts as one."""
    return len(text.split()) or 1


def answers(texts: Sequence[str]) -> NDArray[np.float32]:
    """(n, 8) in [-1, 1]: the eight big-endian words of SHA-256(text), each / 2^31 - 1."""
    digests = b"".join(hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest() for t in texts)
    numbers = np.frombuffer(digests, dtype=">u4").reshape(-1, DIMENSION)
    return (numbers / 2.0**31 - 1.0).astype(np.float32)


def fault_of(text: str) -> str:
    """`raise` for `fault:raise whatever`; empty for an ordinary text."""
    return text[6:].partition(" ")[0] if text.startswith("fault:") else ""


def _inject_faults(drills: set[str], inputs: int) -> None:
    if "exit" in drills:
        os._exit(1)  # no clean-up: as a crash would
    while "hang" in drills:
        time.sleep(3600)
    if "raise" in drills:
        raise SimulatedFault("fault:raise was asked for by an input of this batch")
    if "oom" in drills and inputs >= OOM_FROM:
        raise MemoryError(f"out of memory: a batch of {inputs} inputs holds fault:oom")


def _sharpen_sleep() -> None:
    # Linux may end a sleep 50 µs late to save wake-ups; this thread asks for 1 ns instead.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
