"""mosec: HTTP and batching in Rust, the model in a worker process of Python."""

import sys
from typing import Any

import orjson
from mosec import Server, Worker

from loadtests.peers.model import load
from loadtests.peers.options import Options


class Embed(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._model = load(Options.from_environment())

    def deserialize(self, data: bytes) -> str:
        text: str = orjson.loads(data)["inputs"]
        return text

    def forward(self, data: list[str]) -> list[Any]:
        return list(self._model.embed(data))

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    options = Options.from_environment()
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(options.port)]
    sys.argv += ["--timeout", "60000", "--capacity", "4096", "--log-level", "warning"]
    server = Server()
    server.append_worker(
        Embed,
        num=1,
        max_batch_size=options.max_batch,
        max_wait_time=max(1, round(options.max_wait_ms)),  # Whole milliseconds.
        timeout=60,
    )
    server.run()
