"""Sparse embeddings as SparseEncoder of sentence-transformers makes them, whatever its modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.util import select_max_active_dims
from torch import Tensor

from service.models.padding import IDS, TYPES
from service.repository.folder import ModelFolder, Wanted
from service.repository.spec import ModelNotSupported

Ids = np.ndarray[Any, np.dtype[np.int32]]


class SparseReference:
    def __init__(self, model: SparseEncoder, folder: ModelFolder) -> None:
        self.model = model.eval()
        self.chain = list(model)
        if not isinstance(self.chain[0], Transformer):
            raise ModelNotSupported(
                f"{folder.whole / 'modules.json'}: {type(self.chain[0]).__name__} comes first: only"
                " a Transformer may"
            )
        if any(isinstance(each, Router) for each in self.chain):
            raise ModelNotSupported(
                f"{folder.whole / 'modules.json'}: a Router, which makes others of other texts"
            )
        self.transformer: Any = self.chain[0]
        self.tokenizer: Any = model.tokenizer

    @classmethod
    def load(
        cls, folder: ModelFolder, wanted: Wanted, device: str = "cpu", dtype: str = "float32"
    ) -> SparseReference:
        """Raises ModelNotSupported, or what the library raises."""
        model = SparseEncoder(
            str(folder.whole),
            device=device,
            local_files_only=True,
            trust_remote_code=wanted.trust_remote_code,
            model_kwargs={"dtype": getattr(torch, dtype)},
        )
        return cls(model, folder)

    @property
    def splade(self) -> SpladePooling | None:
        """None: other modules than a transformer and this, which only the reference has."""
        [_, *others] = self.chain
        found = others[0] if len(others) == 1 else None
        return found if isinstance(found, SpladePooling) else None

    def tokenize(self, inputs: Sequence[str]) -> list[Ids]:
        """As the library does it, without any prompt. Raises ModelNotSupported."""
        features = self.model.preprocess(list(inputs))
        if IDS not in features or "attention_mask" not in features:
            raise ModelNotSupported(f"inputs are {', '.join(features)}, not token ids alone")
        ids, mask = features[IDS].numpy(), features["attention_mask"].numpy() == 1
        return [row[kept].astype(np.int32) for row, kept in zip(ids, mask, strict=True)]

    @torch.inference_mode()
    def weights(self, sequences: Sequence[Ids]) -> Tensor:
        """(n, width)"""
        rows: dict[str, Any] = {IDS: [ids.tolist() for ids in sequences]}
        if TYPES in self.tokenizer.model_input_names:
            rows[TYPES] = [[0] * len(ids) for ids in sequences]
        padded = self.tokenizer.pad(rows, return_tensors="pt")
        features: dict[str, Any] = {
            name: each.to(self.model.device) for name, each in padded.items()
        }
        most = self.model.max_active_dims
        given = {} if most is None else {"max_active_dims": most}
        found = self.model({**features, "modality": "text"}, **given)["sentence_embedding"]
        chosen: Tensor = select_max_active_dims(found, max_active_dims=most)
        return chosen

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The library's own answers to texts: (n, width). No prompt."""
        found = self.model.encode(
            list(texts), prompt="", convert_to_sparse_tensor=False, show_progress_bar=False
        )
        answers: np.ndarray[Any, np.dtype[np.float32]] = found.float().cpu().numpy()
        return answers
