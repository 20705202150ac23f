"""A transformer with a head, as transformers loads and runs it: classifiers and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from service.models.backends import Ids
from service.models.rows import IDS, TYPES
from service.repository.folder import ModelFolder, Wanted

Pairs = Sequence[str | tuple[str, str]]


class HeadedReference:
    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer

    @classmethod
    def load(
        cls,
        folder: ModelFolder,
        wanted: Wanted,
        auto_class: str,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> HeadedReference:
        """Raises what the library raises."""
        model = getattr(transformers, auto_class).from_pretrained(
            folder.encoder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=wanted.trust_remote_code,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder.encoder, local_files_only=True, trust_remote_code=wanted.trust_remote_code
        )
        return cls(model.to(device), tokenizer)

    def tokenize(self, inputs: Pairs, limit: int) -> tuple[list[Ids], list[Ids] | None]:
        """Token ids and, where the model has them, token types; cut at `limit`."""
        ids, types = [], []
        for one in inputs:
            texts = (one,) if isinstance(one, str) else one
            found = self.tokenizer(*texts, truncation=True, max_length=limit)
            ids.append(np.array(found[IDS], np.int32))
            types.append(np.array(found.get(TYPES, [0] * len(found[IDS])), np.int32))
        return ids, types if TYPES in self.tokenizer.model_input_names else None

    @torch.inference_mode()
    def run(self, sequences: Sequence[Ids], types: Sequence[Ids] | None) -> tuple[Any, Tensor]:
        """The model's output for a padded batch, and its mask."""
        rows: dict[str, Any] = {IDS: [ids.tolist() for ids in sequences]}
        if types is not None:
            rows[TYPES] = [each.tolist() for each in types]
        padded = self.tokenizer.pad(rows, return_tensors="pt", padding_side="right")
        given = {name: each.to(self.model.device) for name, each in padded.items()}
        return self.model(**given), given["attention_mask"]

    def longest(self, ids: Ids) -> None:
        """Runs them, the last one being an end token: some heads read no other."""
        if isinstance(end := getattr(self.model.config, "eos_token_id", None), int):
            ids[-1] = end
        self.run([ids], None)
