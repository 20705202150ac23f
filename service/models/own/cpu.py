"""The part of a Model that CPU processes do: preprocess and postprocess, one input at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from batcher import Model, Runner
from service.models.config import RunnerConfig
from service.models.own.find import find, model_of
from service.models.own.steps import finished, prepared
from service.models.own.values import isolated
from service.models.placed import bind_to, said_in_one_line

# One thread each: there is a process for each core already.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def create_cpu(runner: str, config: RunnerConfig) -> Runner:
    """See create_pinned(). Called in the process, before it has imported the user's module."""
    for variable in _THREADS:
        os.environ[variable] = "1"
    bind_to(config.cores)
    with said_in_one_line():
        return CpuRunner(model_of(find(runner), runner, config), runner, config.max_output_bytes)


class CpuRunner:
    """Payloads are (stage, value). The result of preprocess is (value, cost)."""

    def __init__(self, model: Model, name: str, max_output_bytes: int) -> None:
        self._model = model
        self._name = name
        self._limit = max_output_bytes

    def warm_up(self) -> Mapping[str, object]:
        self._model.setup_cpu()
        return {"model": self._name}

    def run(self, payloads: Sequence[tuple[str, Any]]) -> Sequence[Any]:
        return isolated(self._one, payloads)

    def close(self) -> None:
        """The process ends, and all with it."""

    def _one(self, payload: tuple[str, Any]) -> Any:
        stage, value = payload
        if stage == "postprocess":
            return finished(self._model, value, self._limit)
        value = prepared(self._model, value)
        return value, max(1, math.ceil(self._model.cost(value)))
