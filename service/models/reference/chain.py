"""A chain of sentence-transformers' modules, from texts to what its last module makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Router, Transformer

from service.models.backends import Ids
from service.models.rows import IDS, TYPES
from service.repository.folder import ModelFolder, Wanted
from service.repository.spec import ModelNotSupported


class Chain:
    """Of one of the library's kinds of model: dense or sparse embeddings, cross-encoders."""

    def __init__(self, model: Any, folder: ModelFolder) -> None:
        """Raises ModelNotSupported."""
        self.model = model.eval()
        self.chain = list(model)
        file = folder.whole / "modules.json"
        if not isinstance(self.chain[0], Transformer):
            raise ModelNotSupported(
                f"{file}: {type(self.chain[0]).__name__} comes first: only a Transformer may"
            )
        if any(isinstance(each, Router) for each in self.chain):
            raise ModelNotSupported(f"{file}: a Router, which makes other vectors of other texts")
        self.transformer: Any = self.chain[0]
        self.tokenizer: Any = model.tokenizer

    @property
    def limit(self) -> int | None:
        """Tokens that the library cuts texts at; None: it states none."""
        options = self.transformer.processing_kwargs
        own = (options.get(kind, {}).get("max_length") for kind in ("common", "text"))
        limits = [n for n in (self.model.max_seq_length, *own) if n is not None]
        return min(limits, default=None)

    def tokenize(self, inputs: Sequence[str]) -> list[Ids]:
        """As the library does it, without any prompt. Raises ModelNotSupported."""
        features = self.model.preprocess(list(inputs))
        if IDS not in features or "attention_mask" not in features:
            raise ModelNotSupported(f"inputs are {', '.join(features)}, not token ids alone")
        ids, mask = features[IDS].numpy(), features["attention_mask"].numpy() == 1
        return [row[kept].astype(np.int32) for row, kept in zip(ids, mask, strict=True)]

    def features(self, sequences: Sequence[Ids]) -> dict[str, Any]:
        """For the first module: padded as the library does it, on the side of its tokenizer."""
        rows: dict[str, Any] = {IDS: [ids.tolist() for ids in sequences]}
        if TYPES in self.tokenizer.model_input_names:
            rows[TYPES] = [[0] * len(ids) for ids in sequences]
        padded = self.tokenizer.pad(rows, return_tensors="pt")
        features = {name: each.to(self.model.device) for name, each in padded.items()}
        return {**features, "modality": "text"}


def load_as(kind: Any, folder: ModelFolder, wanted: Wanted, device: str, dtype: str) -> Any:
    """The library's model of that kind. Raises what the library raises."""
    return kind(
        str(folder.whole),
        device=device,
        local_files_only=True,
        trust_remote_code=wanted.trust_remote_code,
        model_kwargs={"dtype": getattr(torch, dtype)},
    )
