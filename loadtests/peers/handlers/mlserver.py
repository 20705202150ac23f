"""MLServer: adaptive batching in the HTTP process, the model in one worker process."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.model import load
from loadtests.peers.options import Options
from loadtests.servers.launch import free_port

NAME = "embed"


class Embed(MLModel):
    async def load(self) -> bool:
        self._model = load(Options.from_environment())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        vectors = self._model.embed(StringCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("vectors", np.asarray(vectors))
        return InferenceResponse(model_name=self.name, outputs=[output])


def write_settings(options: Options, folder: Path) -> None:
    """As its documentation lays out a model repository."""
    server = {
        "host": "127.0.0.1",
        "http_port": options.port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "metrics_dir": str(folder),
        "environments_dir": str(folder),
        "debug": False,
        "gzip_enabled": False,
        "parallel_workers": 1,
    }
    model = {
        "name": NAME,
        "implementation": "loadtests.peers.handlers.mlserver.Embed",
        "max_batch_size": options.max_batch,
        "max_batch_time": options.max_wait_ms / 1000,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    from mlserver.cli import main

    home = Path(os.environ["PEER_FOLDER"])
    write_settings(Options.from_environment(), home)
    sys.argv[1:] = ["start", str(home)]
    main()
