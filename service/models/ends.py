"""Classifiers that are encoder and decoder (BART, T5): their head reads the state of the last end
token of a text, as each ...ForSequenceClassification of transformers has it. That takes only texts
with equally many end tokens in one batch, and a pair has more of them than a text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput


def reads_last_end(model: Any) -> bool:
    return bool(model.config.is_encoder_decoder) and hasattr(model, "classification_head")


class AtLastEnd(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    @property
    def base_model(self) -> Any:
        return self.model.base_model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor
    ) -> SequenceClassifierOutput:
        """Of a text without an end token, which no tokenizer makes, that of its last token."""
        if hasattr(self.model, "_shift_right"):  # T5's body does not do it by itself
            more = {**more, "decoder_input_ids": self.model._shift_right(input_ids)}
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **more)[0]
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        ends = real.bool() & (input_ids == self.config.eos_token_id)
        last = torch.where(ends.any(dim=1), (ends * places).amax(dim=1), real.sum(dim=1) - 1)
        rows = torch.arange(len(input_ids), device=input_ids.device)
        return SequenceClassifierOutput(logits=self.model.classification_head(states[rows, last]))
