"""Sentence embeddings as sentence-transformers makes them, whatever its modules are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from service.models.backends import Ids
from service.models.reference.chain import Chain, load_as
from service.models.rows import IDS
from service.repository.folder import ModelFolder, Wanted
from service.repository.spec import ModelNotSupported

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}  # by ours, that are faster elsewhere
_THEIRS = {"last": "lasttoken"}


class DenseReference(Chain):
    def __init__(self, model: SentenceTransformer, folder: ModelFolder) -> None:
        super().__init__(model, folder)
        self.normalizes = isinstance(self.chain[-1], Normalize)
        if self.normalizes:
            self.chain = self.chain[:-1]

    @classmethod
    def load(
        cls, folder: ModelFolder, wanted: Wanted, device: str = "cpu", dtype: str = "float32"
    ) -> DenseReference:
        """Raises ModelNotSupported, or what the library raises."""
        model = load_as(SentenceTransformer, folder, wanted, device, dtype)
        if wanted.pooling != "auto":
            _set_pooling(model, _THEIRS.get(wanted.pooling, wanted.pooling))
        return cls(model, folder)

    def pooling(self) -> str:
        """`mean`, or what several of them together are called; empty: something else."""
        poolings = [each for each in self.chain if isinstance(each, Pooling)]
        if len(poolings) != 1:
            return ""
        modes: Any = poolings[0].pooling_mode
        modes = (modes,) if isinstance(modes, str) else modes
        return "+".join(POOLINGS.get(mode, mode) for mode in modes)

    @property
    def leaves_out_prompt(self) -> bool:
        """Its vectors are made without a prompt's own tokens."""
        poolings = [each for each in self.chain if isinstance(each, Pooling)]
        return not all(each.include_prompt for each in poolings)

    def why_not_plain(self) -> str:
        """What only the reference has; empty: nothing, other backends may run this model."""
        kinds = [type(each) for each in self.chain]
        if kinds != [Transformer, Pooling]:
            return " → ".join(kind.__name__ for kind in kinds)
        transformer = self.transformer
        if self.pooling() not in POOLINGS.values():
            return f"pooling {self.pooling()}"
        text = transformer.modality_config.get("text", {})
        is_body = text.get("method") == "forward" and transformer.transformer_task == (
            "feature-extraction"
        )
        body = type(transformer.auto_model)
        if not is_body or body is not transformers.MODEL_MAPPING.get(
            type(transformer.config), None
        ):
            return f"{body.__name__}, which is not the body that transformers loads by itself"
        return ""

    @torch.inference_mode()
    def pooled(self, sequences: Sequence[Ids]) -> Tensor:
        """(n, dimension) in float32, on the CPU: before Normalize, if that is the last module."""
        features = self.features(sequences)
        for module in self.chain:
            features = module(features)
        vectors: Tensor = features["sentence_embedding"]
        return vectors[:, : self.model.truncate_dim].float().cpu()

    @torch.inference_mode()
    def states(self, sequences: Sequence[Ids]) -> list[Tensor]:
        """Of each token, as the transformer makes them: (tokens, dimension) each."""
        features = self.features(sequences)
        mask = features["attention_mask"] == 1
        found: Tensor = self.transformer(features)["token_embeddings"]
        return [row[kept] for row, kept in zip(found, mask, strict=True)]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """The library's own answers to texts: (n, dimension), float32. No prompt. Each text alone,
        which takes less time than all padded to the longest."""
        vectors = self.model.encode(
            list(texts), batch_size=1, prompt="", convert_to_tensor=True, device="cpu"
        )
        as_float: Tensor = vectors.float().cpu()
        return as_float

    def is_causal(self) -> bool:
        """Does each token see only those before it?"""
        first, other = (np.array([3, last], np.int32) for last in (4, 5))
        with torch.inference_mode():
            states: list[Tensor] = []
            for ids in (first, other):
                given = {IDS: torch.from_numpy(ids[None].astype(np.int64))}
                given["attention_mask"] = torch.ones_like(given[IDS])
                states.append(self.transformer.forward(given)["token_embeddings"][0, 0].float())
        return torch.allclose(states[0], states[1], atol=1e-6)


def _set_pooling(model: SentenceTransformer, mode: str) -> None:
    for place, each in enumerate(model):
        if isinstance(each, Pooling):
            made = Pooling(each.embedding_dimension, mode, each.include_prompt)
            takes, gives = each.get_embedding_dimension(), made.get_embedding_dimension()
            behind = list(model)[place + 1 :]
            if gives != takes and any(True for module in behind for _ in module.parameters()):
                raise ModelNotSupported(
                    f"BATCHER_POOLING makes {gives} numbers of a text, and the modules behind this"
                    f" model's own pooling take {takes}"
                )
            model[place] = made
            return
    raise ModelNotSupported("BATCHER_POOLING is set, and this model has no pooling to set")
