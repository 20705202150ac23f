"""What the files in a sentence encoder's folder say about it. Reads JSON only: no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Pooling = Literal["mean", "cls", "last"]

# Their learned positions start behind the padding id: 514 positions hold 512 tokens.
OFFSET_POSITIONS = frozenset(
    (
        *("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert"),
        *("mpnet", "longformer", "data2vec-text", "ibert", "xmod", "luke"),
    )
)
POOLING_FLAGS: dict[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
UNLIMITED = 1 << 20  # a model that names no limit of its own


class ModelNotSupported(ValueError):
    """The model is there and this service cannot run it. One line: which file says so."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What the files of a sentence encoder say. Lengths are in tokens, special ones included."""

    folder: Path  # holds config.json, tokenizer.json and the weights
    pooling: Pooling
    normalize: bool
    max_length: int
    dimension: int
    vocab_size: int  # rows of the embedding table: no id may reach it
    pad_id: int
    lowercase: bool  # lower-case the text first, whatever tokenizer.json does
    prompt: str  # goes before every text


def read_spec(folder: Path) -> EncoderSpec:
    """What the model's files say. Raises ModelNotSupported.

    Without the sentence-transformers files (modules.json): mean pooling, normalised.
    """
    pooling: Pooling = "mean"
    normalize = True
    encoder = folder
    if (folder / "modules.json").is_file():
        modules = {kind: folder / path for kind, path in _modules(folder)}
        encoder = modules["Transformer"]
        pooling = _pooling(modules["Pooling"] / "config.json")
        normalize = "Normalize" in modules
    config = _read(encoder / "config.json")
    tokenizer_config = _read(encoder / "tokenizer_config.json", optional=True)
    if config.get("is_encoder_decoder"):
        raise ModelNotSupported(f"{encoder / 'config.json'}: an encoder-decoder, not an encoder")
    if tokenizer_config.get("truncation_side", "right") != "right":
        raise ModelNotSupported(f"{encoder / 'tokenizer_config.json'}: cuts texts on the left")
    if not (encoder / "tokenizer.json").is_file():
        raise ModelNotSupported(f"{encoder}: no tokenizer.json (the fast tokenizer's one file)")
    sentence_config = _sentence_config(encoder)
    return EncoderSpec(
        folder=encoder,
        pooling=pooling,
        normalize=normalize,
        max_length=_max_length(config, tokenizer_config, sentence_config),
        dimension=_first_int(config, ("hidden_size", "dim", "d_model", "n_embd"), encoder),
        vocab_size=_first_int(config, ("vocab_size",), encoder),
        pad_id=_pad_id(config),
        lowercase=bool(sentence_config.get("do_lower_case", False)),
        prompt=_default_prompt(folder),
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """The chain in modules.json as (kind, folder); must be Transformer, Pooling[, Normalize]."""
    file = folder / "modules.json"
    try:
        chain = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in _read_any(file)]
    except (KeyError, TypeError) as error:
        raise ModelNotSupported(f"{file}: not a list of modules") from error
    kinds = [kind for kind, _ in chain]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelNotSupported(
            f"{file}: {' → '.join(kinds) or 'nothing'} is not supported "
            "(Transformer → Pooling, Normalize or not after it, is)"
        )
    return chain


def _pooling(file: Path) -> Pooling:
    config = _read(file)
    modes = config.get("pooling_mode")  # since sentence-transformers 5; flags before
    if modes is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    elif isinstance(modes, str):
        modes = [modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelNotSupported(
            f"{file}: pooling {'+'.join(map(str, modes))} is not supported "
            f"({', '.join(POOLINGS)} are)"
        )
    if not config.get("include_prompt", True):
        raise ModelNotSupported(f"{file}: pooling that leaves the prompt out is not supported")
    return POOLINGS[modes[0]]


def _max_length(
    config: dict[str, Any], tokenizer_config: dict[str, Any], sentence_config: dict[str, Any]
) -> int:
    """The smallest limit that any file names; never more than the model has positions for."""
    limits = [UNLIMITED, config.get("max_position_embeddings"), config.get("n_positions")]
    if config.get("model_type") in OFFSET_POSITIONS:
        limits = [n - _pad_id(config) - 1 if isinstance(n, int) else n for n in limits]
    own = sentence_config.get("max_seq_length")
    limits.append(own if own is not None else tokenizer_config.get("model_max_length"))
    return min(int(n) for n in limits if isinstance(n, int | float) and n > 0)


def _sentence_config(folder: Path) -> dict[str, Any]:
    # sentence_bert_config.json, or in old folders sentence_roberta_config.json and the like
    for file in sorted(folder.glob("sentence_*_config.json")):
        config = _read(file)
        if config.get("transformer_task", "feature-extraction") != "feature-extraction":
            raise ModelNotSupported(f"{file}: task {config['transformer_task']} is not supported")
        return config
    return {}


def _default_prompt(folder: Path) -> str:
    config = _read(folder / "config_sentence_transformers.json", optional=True)
    name = config.get("default_prompt_name")
    return "" if name is None else str((config.get("prompts") or {}).get(name, ""))


def _pad_id(config: dict[str, Any]) -> int:
    pad_id = config.get("pad_token_id")
    return pad_id if isinstance(pad_id, int) and pad_id >= 0 else 0


def _first_int(config: dict[str, Any], names: tuple[str, ...], folder: Path) -> int:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    raise ModelNotSupported(f"{folder / 'config.json'}: names no {' or '.join(names)}")


def _read(file: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not file.is_file():
        return {}
    value = _read_any(file)
    if not isinstance(value, dict):
        raise ModelNotSupported(f"{file}: not a JSON object")
    return value


def _read_any(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotSupported(f"{file}: cannot be read: {error}") from error
