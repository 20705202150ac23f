"""Sparse embeddings as SparseEncoder of sentence-transformers makes them, whatever its modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.util import select_max_active_dims
from torch import Tensor

from service.models.backends import Ids
from service.models.reference.chain import Chain, load_as
from service.repository.folder import ModelFolder, Wanted


class SparseReference(Chain):
    @classmethod
    def load(
        cls, folder: ModelFolder, wanted: Wanted, device: str = "cpu", dtype: str = "float32"
    ) -> SparseReference:
        """Raises ModelNotSupported, or what the library raises."""
        return cls(load_as(SparseEncoder, folder, wanted, device, dtype), folder)

    @property
    def splade(self) -> SpladePooling | None:
        """None: other modules than a transformer and this, which only the reference has."""
        [_, *others] = self.chain
        found = others[0] if len(others) == 1 else None
        return found if isinstance(found, SpladePooling) else None

    @torch.inference_mode()
    def weights(self, sequences: Sequence[Ids]) -> Tensor:
        """(n, width)"""
        most = self.model.max_active_dims
        given = {} if most is None else {"max_active_dims": most}
        found = self.model(self.features(sequences), **given)["sentence_embedding"]
        chosen: Tensor = select_max_active_dims(found, max_active_dims=most)
        return chosen

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The library's own answers to texts: (n, width). No prompt."""
        found = self.model.encode(
            list(texts),
            batch_size=1,  # less time than all padded to the longest
            prompt="",
            convert_to_sparse_tensor=False,
            show_progress_bar=False,
        )
        answers: np.ndarray[Any, np.dtype[np.float32]] = found.float().cpu().numpy()
        return answers
