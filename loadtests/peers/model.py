"""What every server runs: tokenise, pad and forward in one call, or the simulated accelerator.

Imported in the peers' own environments.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.baselines.model import SentenceModel, default_folder
from loadtests.peers.options import Options
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedRunner

Matrix = NDArray[np.float32]


class Model(Protocol):
    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row for each text. Not for two threads at once."""


class Simulated:
    """The service's own simulated accelerator."""

    def __init__(self, options: Options) -> None:
        self._runner = SimulatedRunner(
            SimulatedConfig(options.sim_fixed_ms, options.sim_per_item_ms)
        )
        self._warm = threading.local()

    def embed(self, texts: Sequence[str]) -> Matrix:
        if not hasattr(self._warm, "done"):
            self._runner.warm_up()  # Exact sleeps are asked for by each thread for itself.
            self._warm.done = True
        return np.asarray(self._runner.run(texts), dtype=np.float32)


def load(options: Options) -> Model:
    if options.load == "simulated":
        return Simulated(options)
    model = SentenceModel(default_folder(), options.threads)
    for size in (1, 8, options.max_batch):
        model.embed(["one forward before the first request is the warm-up"] * size)
    return model


class Runner:
    """The same forward code as a runner of ours: BATCHER_RUNNER=loadtests.peers.model:Runner."""

    def __init__(self) -> None:
        self._options = Options.from_environment()
        self._model: Model | None = None

    def warm_up(self) -> Mapping[str, object]:
        self._model = load(self._options)
        return {"model": f"{self._options.load}, the forward code of the comparison"}

    def run(self, payloads: Sequence[str]) -> Sequence[Any]:
        assert self._model is not None, "run before warm_up: this is a bug"
        return list(self._model.embed(payloads))

    def close(self) -> None:
        pass
