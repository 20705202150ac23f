"""LitServe: FastAPI processes, and the model in a worker process behind a queue."""

from typing import Any

import litserve
import numpy as np

from loadtests.peers.model import Matrix, load
from loadtests.peers.options import Options


class Embed(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._model = load(Options.from_environment())

    def decode_request(self, request: dict[str, str]) -> str:
        return request["inputs"]

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, x: list[str]) -> Matrix:
        return self._model.embed(x)

    def unbatch(self, output: Matrix) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> list[float]:
        numbers: list[float] = np.asarray(output).tolist()
        return numbers


if __name__ == "__main__":
    options = Options.from_environment()
    api = Embed(
        max_batch_size=options.max_batch,
        batch_timeout=options.max_wait_ms / 1000,
        api_path="/embed",
    )
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=1, timeout=60, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
