"""A text classifier in a folder of sentence-transformers, as CrossEncoder reads it: with what its
files say of case and length."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from service.models.reference.chain import Chain, load_as
from service.models.reference.headed import HeadedReference, Pairs
from service.repository.folder import ModelFolder, Wanted


class CrossReference(Chain):
    @classmethod
    def load(cls, folder: ModelFolder, wanted: Wanted) -> CrossReference:
        """Raises ModelNotSupported, or what the library raises."""
        return cls(load_as(CrossEncoder, folder, wanted, "cpu", "float32"), folder)

    def headed(self) -> HeadedReference:
        return HeadedReference(self.transformer.auto_model, self.tokenizer)

    def encode(self, inputs: Pairs) -> Tensor:
        """The library's own logits: (n, labels). No prompt. Each input alone."""
        found: list[Any] = [
            self.model.predict(
                one if isinstance(one, str) else list(one),
                prompt="",
                activation_fn=torch.nn.Identity(),
                convert_to_tensor=True,
                show_progress_bar=False,
            )
            for one in inputs
        ]
        return torch.stack([each.float().cpu().reshape(-1) for each in found])
