"""A backend until it fails at what PyTorch as it comes can answer; from then on that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from batcher.runner import explain, is_device_lost, is_out_of_memory
from service.models.backends import Backend, Ids, Say, Vectors


class ReplaceableBackend:
    """What neither of the two can answer is the input's own fault, and changes nothing.

    `plain` is opened when it is first needed, and kept: an input that nobody can answer may come
    again. It raises what it likes.
    """

    def __init__(self, backend: Backend, plain: Callable[[], Backend], say: Say) -> None:
        self._runs = backend
        self._open = plain
        self._plain: Backend | None = None
        self._say = say
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

    def forward(self, sequences: Sequence[Ids]) -> Vectors:
        if self._failed:
            return self._runs.forward(sequences)
        try:
            return self._runs.forward(sequences)
        except Exception as error:
            # Without room, a smaller batch will do; a device that is lost is so for all of them.
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            failure = error
        return self._instead(sequences, failure)

    def close(self) -> None:
        self._runs.close()
        if self._plain is not None and self._plain is not self._runs:
            self._plain.close()

    def _instead(self, sequences: Sequence[Ids], failure: Exception) -> Vectors:
        try:
            self._plain = self._plain or self._open()
            vectors = self._plain.forward(sequences)
        except Exception as error:
            raise failure from error
        if not np.all(np.isfinite(vectors)):
            raise failure
        failed, why = self._runs, explain(failure)
        self._runs, self._failed = self._plain, {failed.name: why}
        self._say(f"backend {failed.name} fails, the model runs as it comes from now on: {why}")
        failed.close()
        return vectors
