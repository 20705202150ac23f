"""EncoderSpec: what a text model's files mean, as the reference library reads them. Plain data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.repository.architecture import CLASSIFIERS, Activation, Task
from service.repository.json_files import ModelNotSupported as ModelNotSupported

Pooling = str
"""mean, cls or last; another name of sentence-transformers' where only the reference runs it."""

Side = Literal["left", "right"]

UNLIMITED = 1 << 20  # tokens, of a model that names no limit of its own
SpladePooling = Literal["max", "sum"]
SpladeActivation = Literal["relu", "log1p_relu"]


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Lengths are in tokens, special ones included."""

    folder: Path  # holds config.json and the weights
    pooling: Pooling  # of task embed, as is normalize
    normalize: bool
    max_length: int
    dimension: int  # of an embedder's vectors, sparse ones too; else of the hidden states
    vocab_size: int  # rows of the embedding table: no id may reach it
    pad_id: int
    prompt: str  # goes before every text, and before the first one of a pair
    task: Task = "embed"
    labels: tuple[str, ...] = ()  # of a classifier, by the place of their logit
    activation: Activation = "softmax"  # from logits to scores
    entailment: int | None = None  # the place of that label, of a classifier that has one
    splade_pooling: SpladePooling = "max"  # of task sparse: over a text's tokens
    splade_activation: SpladeActivation = "relu"  # ln(1 + relu(x)); log1p_relu: ln(1 + that)
    max_active: int | None = None  # weights that are not 0; the smallest of more are dropped
    takes_token_types: bool = False
    unknown_token: str | None = None  # what the tokenizer writes for what it does not know
    dropped_head: str = ""  # the architecture, where BATCHER_TASK=embed leaves its head out
    # By name; `prompt` is the text of the default one.
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncation_side: Side = "right"  # the end that is cut off a long text
    matryoshka: tuple[int, ...] = ()  # what its vectors were trained to be cut to; empty: any
    tokenizer: Path | None = None  # tokenizer.json as the reference built it; None: in `folder`
    # The reference's float32 answers, see reference_answers.py; None: it was not asked.
    answers: Path | None = None
    takes_prompts: bool = True  # what is made of a text does not leave its prompt out
    is_plain: bool = True  # no step that only the reference has: faster backends may run it
    source: str = ""  # which files say so, for people
    whole: Path | None = None  # the folder that the reference loads; None: `folder`

    @property
    def pairs_have_types(self) -> bool:
        """Whether an input may come with token types: one text alone is of type 0."""
        return self.takes_token_types and self.task in CLASSIFIERS

    @property
    def tokenizer_file(self) -> Path:
        return self.tokenizer or self.folder / "tokenizer.json"


def to_json(spec: EncoderSpec) -> str:
    fields = dataclasses.asdict(spec)
    return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in fields.items()})


def from_json(text: str) -> EncoderSpec:
    """Raises ValueError, TypeError or KeyError for what to_json has not written."""
    fields: dict[str, Any] = json.loads(text)
    for name in ("folder", "tokenizer", "answers", "whole"):
        fields[name] = None if fields[name] is None else Path(fields[name])
    return EncoderSpec(**{name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def first_int(config: Mapping[str, Any], names: tuple[str, ...], file: Path) -> int:
    """Raises ModelNotSupported."""
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    raise ModelNotSupported(f"{file}: names no {' or '.join(names)}")
