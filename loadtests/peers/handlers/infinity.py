"""Infinity: its HTTP and its dynamic batching around an embedder of ours."""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn
from infinity_emb.args import EngineArgs
from infinity_emb.infinity_server import create_server
from infinity_emb.transformer.abstract import BaseEmbedder

from loadtests.peers.model import load
from loadtests.peers.options import Options

NAME = "embed"


class Embed(BaseEmbedder):
    def __init__(self, *, engine_args: EngineArgs) -> None:
        self.engine_args = engine_args
        self._model = load(Options.from_environment())

    def encode_pre(self, sentences: list[str]) -> list[str]:
        return sentences

    def encode_core(self, features: list[str]) -> Any:
        return self._model.embed(features)

    def encode_post(self, embedding: Any, skip_quanitzation: bool = True) -> list[Any]:
        return list(np.asarray(embedding))

    def tokenize_lengths(self, sentences: list[str]) -> list[int]:
        return [len(sentence) for sentence in sentences]


if __name__ == "__main__":
    options = Options.from_environment()
    # Its table of engines is closed, so ours is put where it looks one up; the package has a
    # function of the module's name.
    selecting: Any = importlib.import_module("infinity_emb.inference.select_model")
    selecting.get_engine_type_from_config = lambda engine_args: SimpleNamespace(value=Embed)
    arguments = EngineArgs(
        model_name_or_path=NAME,
        served_model_name=NAME,
        batch_size=options.max_batch,
        engine="debugengine",
        device="cpu",
        dtype="float32",
        bettertransformer=False,
        model_warmup=False,
    )
    uvicorn.run(
        create_server(engine_args_list=[arguments]),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
