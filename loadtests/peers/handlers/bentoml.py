"""BentoML: one process, whose dispatcher decides when a batch goes."""

import os
import sys
from typing import Any

import bentoml

from loadtests.peers.model import load
from loadtests.peers.options import Options

options = Options.from_environment()


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Embed:
    def __init__(self) -> None:
        self._model = load(Options.from_environment())

    # max_latency_ms is no max wait: it refuses what it expects to take longer. Left as it is.
    @bentoml.api(batchable=True, max_batch_size=options.max_batch, route="/embed")
    def embed(self, inputs: list[str]) -> list[list[float]]:
        vectors: Any = self._model.embed(inputs)
        rows: list[list[float]] = vectors.tolist()
        return rows


if __name__ == "__main__":
    here = "loadtests.peers.handlers.bentoml:Embed"
    command = [sys.executable, "-m", "bentoml", "serve", here]
    os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", str(options.port)])
