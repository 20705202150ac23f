"""What a model's files say, legally, beside what its own library writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Step:
    """A module behind the transformer."""

    kind: str  # Pooling, Dense, LayerNorm, Normalize, Dropout
    modes: tuple[str, ...] = ("mean",)  # of Pooling
    size: int = 0  # of what Dense makes
    activation: str = "Tanh"
    bias: bool = True


@dataclass(frozen=True)
class Folder:
    """Fields are what its files say; None: nothing."""

    task: str = "embed"
    kind: str = "bert"
    steps: tuple[Step, ...] = (Step("Pooling"),)  # empty: no file of sentence-transformers
    # Lengths
    positions: int = 40
    model_max_length: int | None = None
    max_seq_length: int | None = None
    # Tokenizer
    cased: bool = False
    ends: bool = True
    padding_side: str = "right"
    truncation_side: str = "right"
    do_lower_case: bool = False  # of sentence_bert_config.json
    added: tuple[str, ...] = ()  # tokens
    own_padding: bool = False  # tokenizer.json pads and cuts by itself, as many on the hub do
    # Names and forms of files
    legacy: bool = False  # as versions before 3 of sentence-transformers wrote them
    subfolder: str = ""
    weights: str = "safetensors"  # bin, shards
    dtype: str = "float32"
    # Meaning
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    similarity: str | None = None
    matryoshka: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()  # of a classifier; empty: three of transformers' own
    problem: str | None = None
    splade: tuple[str, str] = ("max", "relu")
    most_active: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)  # more fields of config.json
    # Images
    processor: Mapping[str, Any] = field(default_factory=dict)  # more fields of its file
    nested: bool = False  # the image processor is in processor_config.json
    fast: bool = False  # its class has the name of the fast one

    def describe(self) -> str:
        """The fields that are not the default."""
        return " ".join([self.task, self.kind, *(f"{k}={v}" for k, v in self.said().items())])

    def said(self) -> dict[str, str]:
        """The fields that are not the default, and what they say."""
        plain = Folder(task=self.task, kind=self.kind)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {k: _short(v) for k, v in values.items() if v != getattr(plain, k)}


def _short(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Step):
        return "→".join(
            f"{s.kind}({'+'.join(s.modes)})" if s.kind == "Pooling" else s.kind for s in value
        )
    return str(value).replace(" ", "")
