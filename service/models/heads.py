"""The task's part of the forward pass: what is made of the hidden states. One head a task.

The backends run any of them, and know none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from service.models.measures import Cosine, Logits, Measure
from service.repository.spec import EncoderSpec, Pooling

Finish = Callable[[Tensor], Tensor]
"""From pooled hidden states, (n, dimension), to answers, (n, width), both float32."""


class Head(Protocol):
    auto_class: str  # of transformers, which loads the model with this head
    measure: Measure

    def width(self, spec: EncoderSpec) -> int:
        """The numbers of one answer."""

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        """From what transformers' model returns for a padded batch to (n, width) in float32."""

    def pooling(self, spec: EncoderSpec) -> Pooling:
        """Which hidden states of a text it reads, where our own forward pass runs the body."""

    def finish(self, model: Any, spec: EncoderSpec) -> Finish:
        """From those to the answers, with the weights of transformers' model."""

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        """For /info and the log."""


class Pooled:
    """Task embed: one vector a text."""

    auto_class = "AutoModel"
    measure: Measure = Cosine()

    def width(self, spec: EncoderSpec) -> int:
        return spec.dimension

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        return _scaled(pool(output.last_hidden_state, mask, spec.pooling), spec)

    def pooling(self, spec: EncoderSpec) -> Pooling:
        return spec.pooling

    def finish(self, model: Any, spec: EncoderSpec) -> Finish:
        return lambda pooled: _scaled(pooled, spec)

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        return {
            "dimension": spec.dimension,
            "pooling": spec.pooling,
            "normalize": spec.normalize,
        }


class Classified:
    """Tasks classify and score: one logit a label. Softmax or sigmoid is up to the task."""

    auto_class = "AutoModelForSequenceClassification"
    measure: Measure = Logits()

    def width(self, spec: EncoderSpec) -> int:
        return len(spec.labels)

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        logits: Tensor = output.logits
        return logits.float()

    def pooling(self, spec: EncoderSpec) -> Pooling:
        return "cls"

    def finish(self, model: Any, spec: EncoderSpec) -> Finish:
        # BERT's pooler, which others have in the classifier; both read the first token alone.
        pooler = getattr(model.base_model, "pooler", None)
        dtype = next(model.classifier.parameters()).dtype

        def finish(pooled: Tensor) -> Tensor:
            first = pooled.to(dtype).unsqueeze(1)
            logits: Tensor = model.classifier(first if pooler is None else pooler(first))
            return logits.float()

        return finish

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        return {"labels": list(spec.labels), "activation": spec.activation}


HEADS: Mapping[str, Head] = {
    "embed": Pooled(),
    "classify": Classified(),
    "score": Classified(),
}


def head_of(spec: EncoderSpec) -> Head:
    return HEADS[spec.task]


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(n, tokens, dim) and a 0/1 mask (n, tokens), padded on the right, to float32 (n, dim)."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, mask.sum(dim=1) - 1].float()
    weights = mask.float()
    total = torch.bmm(weights.unsqueeze(1), hidden.float()).squeeze(1)
    return total / weights.sum(dim=1, keepdim=True)


def _scaled(vectors: Tensor, spec: EncoderSpec) -> Tensor:
    return functional.normalize(vectors, p=2.0, dim=1) if spec.normalize else vectors
