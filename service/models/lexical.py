"""Task sparse: a weight for each word of the vocabulary, nearly all of them 0 (SPLADE: Formal et
al. 2021, https://arxiv.org/abs/2109.10086), as sentence-transformers' SpladePooling has it.

The weights are the largest (or the sum, as the model says) over a text's tokens of
ln(1 + relu(logit)). The logits of a whole batch would take gigabytes: they are made a few tokens at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.models.measures import Measure, Rows, Weights
from service.repository.spec import EncoderSpec

MOST_LOGITS = 1 << 24  # at once, where the head can be run by itself: 64 MiB in float32
MOST_WHOLE = 1 << 28  # where the model has to make those of whole texts
_CLOSE = 1e-3  # relative to the largest logit


class Sparse:
    auto_class = "AutoModelForMaskedLM"
    measure: Measure = Weights()
    has_states = False
    # An exported graph would hold the logits of the whole batch.
    backends: Collection[str] = frozenset({"torch"})

    def around(self, model: torch.nn.Module, spec: EncoderSpec) -> torch.nn.Module:
        return Lexical(model, spec)

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        weights: Tensor = output
        if spec.max_active is not None and spec.max_active < weights.shape[1]:
            kept, places = weights.topk(spec.max_active, dim=1)
            weights = torch.zeros_like(weights).scatter_(1, places, kept)
        return weights

    def pack(self, answer: Rows) -> tuple[Any, Any]:
        """The places that are not 0, ascending, and their weights."""
        places = np.flatnonzero(answer)
        return places.astype(np.int32), answer[places]

    per_token = False

    def reduce(self, model: Any, spec: EncoderSpec) -> Callable[[Tensor, Sequence[Any]], Tensor]:
        """See TokenHead in heads.py."""
        states_of = model.states_of()

        def reduce(hidden: Tensor, groups: Sequence[Any]) -> Tensor:
            weights = []
            for texts in groups:
                part = hidden[texts.tokens].view(texts.size, texts.length, -1)
                weights.append(model.pooled(states_of(part), None))
            return self.answers(torch.cat(weights), hidden, spec)

        return reduce

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        return {"dimension": spec.dimension, "pooling": f"splade, {spec.splade_pooling}"}


class Lexical(torch.nn.Module):
    """A masked language model, from a padded batch to the weights of each text, (n, vocabulary)."""

    def __init__(self, model: Any, spec: EncoderSpec) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self._is_max = spec.splade_pooling == "max"
        self._logarithms = 2 if spec.splade_activation == "log1p_relu" else 1
        # What makes logits of its states. None: only the model itself can.
        self.output = _taken_apart(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor
    ) -> Tensor:
        if self.output is None:
            return self._whole({"input_ids": input_ids, "attention_mask": attention_mask, **more})
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return self.pooled(states, attention_mask)

    @property
    def base_model(self) -> Any:
        return self.model.base_model

    def states_of(self) -> Callable[[Tensor], Tensor]:
        """From the body's last hidden states to what the last layer is given. Raises ValueError
        where that is not known."""
        found = getattr(self.model, "cls", None) or getattr(self.model, "lm_head", None)
        if self.output is None or found is None:
            raise ValueError("only the model itself makes its logits")
        states_of: Callable[[Tensor], Tensor] = found
        return states_of

    def pooled(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What the last layer is given, (n, tokens, …), to weights."""
        assert self.output is not None, "the last layer was not taken out: this is a bug"
        step = max(1, MOST_LOGITS // (len(states) * self.config.vocab_size))
        pooled: Tensor | None = None
        for start in range(0, states.shape[1], step):
            logits = self.output(states[:, start : start + step])
            mask = None if attention_mask is None else attention_mask[:, start : start + step]
            pooled = self._join(pooled, self._over_tokens(logits, mask))
        assert pooled is not None, "a text has a token at least: this is a bug"
        return self._activated(pooled)

    def _whole(self, given: Mapping[str, Tensor | None]) -> Tensor:
        rows = [
            self._over_tokens(self.model(**part).logits, part["attention_mask"])
            for part in _parts(given, self.config.vocab_size)
        ]
        return self._activated(torch.cat(rows))

    def _over_tokens(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """(n, tokens, vocabulary) to float32 (n, vocabulary); no token is below 0."""
        logits = logits.relu_()
        if mask is not None:
            logits = logits.masked_fill_(mask.unsqueeze(-1) == 0, 0.0)
        if self._is_max:  # rises with the logit: what follows may come later
            return logits.amax(dim=1).float()
        return self._rising(logits).sum(dim=1, dtype=torch.float32)

    def _join(self, one: Tensor | None, other: Tensor) -> Tensor:
        if one is None:
            return other
        return torch.maximum(one, other) if self._is_max else one + other

    def _activated(self, pooled: Tensor) -> Tensor:
        return self._rising(pooled) if self._is_max else pooled

    def _rising(self, logits: Tensor) -> Tensor:
        for _ in range(self._logarithms):
            logits = logits.log1p_()
        return logits


def _parts(
    given: Mapping[str, Tensor | None], vocabulary: int
) -> Iterator[dict[str, Tensor | None]]:
    """As many rows at a time as there is room for the logits of; one at least."""
    ids = given["input_ids"]
    assert ids is not None, "there are always ids: this is a bug"
    step = max(1, MOST_WHOLE // (ids.shape[1] * vocabulary))
    for start in range(0, len(ids), step):
        yield {
            name: None if tensor is None else tensor[start : start + step]
            for name, tensor in given.items()
        }


def _taken_apart(model: Any) -> torch.nn.Module | None:
    """The model's last layer, taken out of it: from here on its `logits` are what that layer is
    given. None, and the model as it was, where the two do not make the same logits again."""
    last = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if module is last]
    if not names or not isinstance(last, torch.nn.Linear):
        return None
    device = next(model.parameters()).device
    ids = torch.arange(10, device=device).view(2, 5) % model.config.vocab_size
    with torch.inference_mode():
        whole = model(input_ids=ids).logits
        model.set_submodule(names[0], torch.nn.Identity())
        try:
            again = last(model(input_ids=ids).logits)
            apart = (again - whole).abs().max() if again.shape == whole.shape else None
        except Exception:  # of its own code, which may look at that layer
            apart = None
    if apart is not None and apart <= _CLOSE * max(1.0, float(whole.abs().max())):
        return last
    model.set_submodule(names[0], last)
    return None
