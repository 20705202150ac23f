"""The task's part of the forward pass: what is made of the hidden states. One head a task.

The backends run any of them, and know none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from service.models.ends import AtLastEnd, reads_last_end
from service.models.lexical import Sparse
from service.models.measures import Directions, Logits, Measure, Rows
from service.repository.spec import EncoderSpec, Pooling

EVERY_BACKEND = ("torch", "onnx", "openvino")

_LEAST_LENGTH = 1e-12  # what a shorter vector is divided by

Around = Callable[[torch.nn.Module, EncoderSpec], torch.nn.Module]
"""From the model as transformers has loaded it to a module that runs it."""

Pack = Callable[[Rows], Any]
"""One answer, checked, as it leaves the worker: plain data."""

Finish = Callable[[Tensor], Tensor]
"""From pooled hidden states, (n, dimension), to answers, (n, width), both float32."""


class Head(Protocol):
    auto_class: str  # of transformers, which loads the model with this head
    measure: Measure

    @property
    def has_states(self) -> bool:
        """Whether what the model returns has the last hidden state of each token."""

    @property
    def backends(self) -> Collection[str]:
        """Those that can run it; torch is always one."""

    @property
    def around(self) -> Around | None:
        """None: the model runs as transformers has loaded it."""

    @property
    def pack(self) -> Pack | None:
        """None: answers leave the worker as they are."""

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        """From what the model returns for a padded batch to float32: (n, width), or (n, tokens,
        width) where an answer has a row for each token."""

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        """For /info and the log."""


class Texts(Protocol):
    """Texts of one length among packed ones: `size` x `length` tokens."""

    @property
    def size(self) -> int: ...

    @property
    def length(self) -> int: ...

    @property
    def tokens(self) -> slice:
        """Their places among all tokens."""


Reduce = Callable[[Tensor, Sequence[Texts]], Tensor]
"""From the last hidden states of packed texts, (tokens, dimension), to answers in float32, in the
order of the pack: a row for each text, or for each token."""


@runtime_checkable
class TokenHead(Head, Protocol):
    """Its answer is made of the hidden states of all tokens: our own forward pass runs it without
    padding."""

    per_token: bool  # a row for each token, not for each text

    def reduce(self, model: Any, spec: EncoderSpec) -> Reduce:
        """With the weights of the model that runs. Raises ValueError where it cannot."""


@runtime_checkable
class VectorHead(Head, Protocol):
    """Its answer is made of one hidden state: our own forward pass runs it, too."""

    def width(self, spec: EncoderSpec) -> int:
        """The numbers of one answer."""

    def pooling(self, spec: EncoderSpec) -> Pooling:
        """Which hidden states of a text it reads."""

    def finish(self, model: Any, spec: EncoderSpec) -> Finish:
        """From those to the answers, with the weights of transformers' model."""


class Pooled:
    """Task embed: one vector a text, of length 1, and behind it the length that it had. Whether a
    caller wants it with that length is for the service: it costs nothing here, and one answer
    serves both."""

    auto_class = "AutoModel"
    measure: Measure = Directions()
    has_states = True
    backends = EVERY_BACKEND
    around: Around | None = None
    pack: Pack | None = None

    def width(self, spec: EncoderSpec) -> int:
        return spec.dimension + 1

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        return scaled(pool(output.last_hidden_state, mask, spec.pooling), spec.dimension)

    def pooling(self, spec: EncoderSpec) -> Pooling:
        return spec.pooling

    def finish(self, model: Any, spec: EncoderSpec) -> Finish:
        return lambda pooled: scaled(pooled, spec.dimension)

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
    has_states = False
    backends = EVERY_BACKEND
    pack: Pack | None = None

    def around(self, model: Any, spec: EncoderSpec) -> torch.nn.Module:
        return AtLastEnd(model) if reads_last_end(model) else model

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


class Tagged:
    """Task tag: a logit for each label, of each token."""

    auto_class = "AutoModelForTokenClassification"
    measure: Measure = Logits()
    has_states = False
    backends: Collection[str] = ("torch",)
    around: Around | None = None
    pack: Pack | None = None
    per_token = True

    def answers(self, output: Any, mask: Tensor, spec: EncoderSpec) -> Tensor:
        logits: Tensor = output.logits
        return logits.float()

    def reduce(self, model: Any, spec: EncoderSpec) -> Reduce:
        def reduce(hidden: Tensor, groups: Sequence[Texts]) -> Tensor:
            logits: Tensor = model.classifier(hidden)
            return logits.float()

        return reduce

    def info(self, spec: EncoderSpec) -> Mapping[str, object]:
        return {"labels": list(spec.labels)}


HEADS: Mapping[str, Head] = {
    "embed": Pooled(),
    "sparse": Sparse(),
    "classify": Classified(),
    "score": Classified(),
    "tag": Tagged(),
}


def head_of(spec: EncoderSpec) -> Head:
    return HEADS[spec.task]


def vector_head_of(spec: EncoderSpec) -> VectorHead:
    """Of a task that our own forward pass runs."""
    head = head_of(spec)
    assert isinstance(head, VectorHead), f"task {spec.task} is not made of vectors: this is a bug"
    return head


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(n, tokens, dim) and a 0/1 mask (n, tokens), padded on the right, to float32 (n, dim)."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, mask.sum(dim=1) - 1].float()
    if pooling != "mean":
        raise ValueError(f"pooling {pooling!r} is the reference library's alone")
    weights = mask.float()
    total = torch.bmm(weights.unsqueeze(1), hidden.float()).squeeze(1)
    return total / weights.sum(dim=1, keepdim=True)


def scaled(vectors: Tensor, dimension: int) -> Tensor:
    """(n, at least `dimension`) to (n, dimension + 1): the first numbers of each vector, brought to
    length 1, and the length that these had. A vector of zeros stays one."""
    if vectors.shape[1] != dimension:
        vectors = vectors[:, :dimension]
    # As torch.nn.functional.normalize, whose divisor this is: times it, a vector is as it was.
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(_LEAST_LENGTH)
    return torch.cat([vectors / lengths, lengths], dim=1)
