"""A backend until it keeps failing at what PyTorch as it comes can answer; then that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from batcher.failures import explain, is_device_lost, is_out_of_memory
from service.models.backends import Answers, Backend, Ids, Say, Types

_MOST_FAILURES = 3  # failures in a row: a lone one may be that of one input, or of a moment
# Seconds that a batch which has failed waits for the other one to load. Not longer: the watchdog
# would take the worker to hang (BATCHER_HANG_AFTER_MS), and the next worker had it all before it.
_LOAD_TIMEOUT = 2.0


class FallbackBackend:
    """What neither of the two can answer is the input's own fault, and changes nothing.

    `plain` is opened in a thread of its own when it is first needed, and kept.
    """

    def __init__(self, backend: Backend, plain: Callable[[], Backend], say: Say) -> None:
        self._runs = backend
        self._open = plain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plain")
        self._plain: Future[Backend] | None = None
        self._say = say
        self._failures = 0  # in a row, each answered by the other
        self._failed: dict[str, str] = {}  # why it was replaced, by its name

    @property
    def name(self) -> str:
        return self._runs.name

    @property
    def dtype(self) -> str:
        return self._runs.dtype

    @property
    def versions(self) -> str:
        return self._runs.versions

    def facts(self) -> Mapping[str, object]:
        """`backend_failed`: only once it was replaced."""
        failed = {"backend_failed": self._failed} if self._failed else {}
        return {**self._runs.facts(), **failed}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        if self._failed:
            return self._runs.forward(sequences, types)
        try:
            answers = self._runs.forward(sequences, types)
        except Exception as error:
            # Without room, a smaller batch will do; a device that is lost is so for all of them.
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            failure = error
        else:
            self._failures = 0
            return answers
        return self._fall_back(sequences, types, failure)

    def close(self) -> None:
        self._runs.close()
        self._thread.shutdown(wait=True, cancel_futures=True)
        plain = self._plain
        if plain is None or plain.cancelled() or plain.exception() is not None:
            return
        if (unused := plain.result()) is not self._runs:
            unused.close()

    def _fall_back(self, sequences: Sequence[Ids], types: Types, failure: Exception) -> Answers:
        if self._plain is None:
            self._plain = self._thread.submit(self._open)
        try:
            plain = self._plain.result(_LOAD_TIMEOUT)
            answers = plain.forward(sequences, types)
        except Exception as error:  # too late for this batch, or the input's own fault
            if is_device_lost(error):
                raise
            raise failure from error
        if not np.all(np.isfinite(answers)):
            raise failure
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._replace(plain, explain(failure))
        return answers

    def _replace(self, plain: Backend, why: str) -> None:
        failed, self._runs = self._runs, plain
        self._failed = {failed.name: why}
        self._say(f"backend {failed.name} fails, the model runs as it comes from now on: {why}")
        failed.close()
