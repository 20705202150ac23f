"""Has the reference loaded all of the model, and has it the tokens that a frontend makes?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from service.repository.folder import TOKENIZERS, ModelFolder, Wanted
from service.repository.inspection import TOKENIZER
from service.repository.json_files import ModelNotSupported
from service.repository.spec import EncoderSpec
from service.tasks.text import TextTokenizer

Input = TypeVar("Input", str, str | tuple[str, str])


def check_weights(read: ModelFolder, kind: Any) -> None:
    """The library fills what is missing with random numbers, and serves it. `kind`: the class that
    it has loaded, or an Auto class."""
    if read.has_own_code:
        return
    _, info = kind.from_pretrained(read.encoder, local_files_only=True, output_loading_info=True)
    # A body's own pooler is what no head of ours reads.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelNotSupported(
            f"{read.encoder}: {len(missing)} of the model's weights are missing, {missing[0]} first"
        )


def check_architecture(read: ModelFolder, wanted: Wanted) -> None:
    """The libraries go by `model_type` alone, and leave out what an architecture that they do not
    know has more. Raises ModelNotSupported unless the files or a setting say what to do."""
    if read.has_own_code or read.names_pooling or wanted.task != "auto":
        return
    there = dir(transformers)  # without importing any
    unknown = [name for name in read.config.get("architectures") or () if name not in there]
    if unknown:
        raise ModelNotSupported(
            f"{read.encoder / 'config.json'}: transformers {transformers.__version__} has no"
            f" architecture {unknown[0]}: BATCHER_TASK={read.task} serves what its model_type,"
            f" {read.config.get('model_type')}, stands for"
        )


def check_vocabulary(read: ModelFolder, tokenizer: Any, rows: int) -> None:
    """Raises ModelNotSupported for a tokenizer with more words than the model has. Tokens that were
    added to it may have no row: a text that holds one is refused."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = {} if backend is None else backend.get_vocab(with_added_tokens=False)
    last = max(words.values(), default=0)
    if last >= rows:
        file = next(name for name in TOKENIZERS if (read.encoder / name).is_file())
        raise ModelNotSupported(
            f"{read.encoder / file}: the tokenizer of another model: it has tokens up to {last},"
            f" and the model {rows} rows for them"
        )


def bad_weight(read: ModelFolder, kind: Any) -> str:
    """Why answers are not finite. `kind` as above."""
    if read.has_own_code:
        return "its weights, or code of its own, are at fault"
    model = kind.from_pretrained(read.encoder, local_files_only=True)
    for name, each in model.named_parameters():
        if not torch.isfinite(each).all():
            return f"its weight {name} is not"
    return "its weights are finite, the model overflows"


def serialised(tokenizer: Any, read: ModelFolder) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelNotSupported(
            f"{read.encoder}: {type(tokenizer).__name__} is a tokenizer without a fast form"
        )
    text: str = backend.to_str()
    return text


def without_empty(texts: list[Input], ids: list[Any]) -> tuple[list[Input], list[Any]]:
    """Without those that have no token: no backend is asked for them."""
    kept = [place for place, each in enumerate(ids) if each.size]
    return [texts[place] for place in kept], [ids[place] for place in kept]


def check_tokens(
    spec: EncoderSpec,
    tokenizer: str,
    made: Path,
    inputs: Sequence[str | tuple[str, str]],
    theirs: Sequence[Any],
) -> None:
    """Raises ModelNotSupported unless a frontend makes the same tokens as the reference."""
    (made / TOKENIZER).write_text(tokenizer)
    bare = dataclasses.replace(
        spec, tokenizer=made / TOKENIZER, prompt="", default_prompt_name=None
    )
    ours = TextTokenizer.load(bare)
    for one, wanted in zip(inputs, theirs, strict=True):
        if isinstance(one, str):
            payload = ours.prepare(one).payload
        else:
            payload = ours.prepare_pair(*one).payload
        found = payload["input_ids"] if isinstance(payload, dict) else payload
        if found.shape != wanted.shape or (found != wanted).any():
            raise ModelNotSupported(
                f"{spec.folder}: its tokenizer is not the same without its own library: of"
                f" {str(one)[:30]!r} it makes {wanted[:12].tolist()}…, and not"
                f" {found[:12].tolist()}…"
            )
