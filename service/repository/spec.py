"""What the files in a text model's folder say about it. Reads JSON only: no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.repository.architecture import (
    CLASSIFIERS,
    Activation,
    Task,
    activation_of,
    choose_task,
    dropped_head,
    entailment_of,
    labels_of,
    own_tasks,
    takes_token_types,
)
from service.repository.json_files import ModelNotSupported as ModelNotSupported
from service.repository.json_files import read_json, read_object
from service.repository.sentences import (
    matryoshka_of,
    read_prompts,
    truncated_to,
    truncation_side,
)
from service.repository.splade import SpladeActivation, SpladePooling, read_splade

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


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What the files of an encoder say. Lengths are in tokens, special ones included."""

    folder: Path  # holds config.json, tokenizer.json and the weights
    pooling: Pooling  # of task embed, as is normalize
    normalize: bool
    max_length: int
    dimension: int  # of the hidden states, and of an embedder's vectors
    vocab_size: int  # rows of the embedding table: no id may reach it
    pad_id: int
    lowercase: bool  # lower-case the text first, whatever tokenizer.json does
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
    truncation_side: Literal["left", "right"] = "right"  # the end that is cut off a long text
    matryoshka: tuple[int, ...] = ()  # what its vectors were trained to be cut to; empty: any

    @property
    def pairs_have_types(self) -> bool:
        """Whether an input may come with token types: one text alone is of type 0."""
        return self.takes_token_types and self.task in CLASSIFIERS


def read_spec(folder: Path, task: str = "auto") -> EncoderSpec:
    """What the model's files say. `task`: as in BATCHER_TASK. Raises ModelNotSupported.

    An encoder without the sentence-transformers files (modules.json): mean pooling, normalised.
    """
    modules = _modules(folder)
    encoder = modules.get("Transformer", folder)
    file = encoder / "config.json"
    config = read_object(file)
    tokenizer_config = read_object(encoder / "tokenizer_config.json", optional=True)
    has_pooling, splade = "Pooling" in modules, modules.get("SpladePooling")
    chosen = choose_task(
        task, config, file, is_sentence_encoder=has_pooling, is_sparse_encoder=splade is not None
    )
    if chosen == "embed" and modules and not has_pooling and not dropped_head(config):
        raise ModelNotSupported(_no_chain(folder / "modules.json", modules))
    if config.get("is_encoder_decoder"):
        raise ModelNotSupported(f"{file}: an encoder-decoder, not an encoder")
    if not (encoder / "tokenizer.json").is_file():
        raise ModelNotSupported(f"{encoder}: no tokenizer.json (the fast tokenizer's one file)")
    sentence_config = _sentence_config(encoder, config)
    whole_file = folder / "config_sentence_transformers.json"
    whole = read_object(whole_file, optional=True)
    labels = labels_of(config, file) if chosen in (*CLASSIFIERS, "tag") else ()
    prompts, default_prompt = read_prompts(folder, embeds=chosen in ("embed", "sparse"))
    hidden = _first_int(config, ("hidden_size", "dim", "d_model", "n_embd"), encoder)
    return EncoderSpec(
        folder=encoder,
        pooling=_pooling(modules["Pooling"] / "config.json") if has_pooling else "mean",
        normalize="Normalize" in modules or not has_pooling,
        max_length=_max_length(config, tokenizer_config, sentence_config),
        dimension=truncated_to(folder, hidden) if chosen == "embed" else hidden,
        vocab_size=_first_int(config, ("vocab_size",), encoder),
        pad_id=_pad_id(config),
        lowercase=bool(sentence_config.get("do_lower_case", False)),
        prompt="" if default_prompt is None else prompts[default_prompt],
        task=chosen,
        labels=labels,
        activation=activation_of(config, labels),
        entailment=entailment_of(config, labels) if chosen == "classify" else None,
        **({} if splade is None else read_splade(splade, whole, whole_file)),
        takes_token_types=takes_token_types(config),
        unknown_token=_unknown_token(tokenizer_config),
        dropped_head=dropped_head(config) if chosen == "embed" and not has_pooling else "",
        prompts=prompts,
        default_prompt_name=default_prompt,
        truncation_side=truncation_side(tokenizer_config, encoder),
        matryoshka=matryoshka_of(config, file) if chosen == "embed" else (),
    )


def _modules(folder: Path) -> dict[str, Path]:
    """The chain in modules.json, the folder of each; empty: there is none. A transformer alone is
    what sentence-transformers makes of a classifier."""
    file = folder / "modules.json"
    if not file.is_file():
        return {}
    try:
        chain = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in read_json(file)]
    except (KeyError, TypeError) as error:
        raise ModelNotSupported(f"{file}: not a list of modules") from error
    kinds = [kind for kind, _ in chain]
    if kinds in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        return {"Transformer": folder / chain[0][1], "SpladePooling": folder / chain[1][1]}
    if not kinds or kinds != ["Transformer", "Pooling", "Normalize"][: len(kinds)]:
        raise ModelNotSupported(_no_chain(file, kinds))
    return {kind: folder / path for kind, path in chain}


def _no_chain(file: Path, kinds: Iterable[str]) -> str:
    return (
        f"{file}: {' → '.join(kinds) or 'nothing'} is not supported "
        "(Transformer → Pooling, Normalize or not after it, and Transformer → SpladePooling are)"
    )


def _pooling(file: Path) -> Pooling:
    config = read_object(file)
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


def _sentence_config(folder: Path, model: dict[str, Any]) -> dict[str, Any]:
    # sentence_bert_config.json, or in old folders sentence_roberta_config.json and the like
    known = ["feature-extraction", *own_tasks(model)]
    for file in sorted(folder.glob("sentence_*_config.json")):
        config = read_object(file)
        if config.get("transformer_task", "feature-extraction") not in known:
            raise ModelNotSupported(f"{file}: task {config['transformer_task']} is not supported")
        return config
    return {}


def _unknown_token(tokenizer_config: dict[str, Any]) -> str | None:
    token = tokenizer_config.get("unk_token")
    token = token.get("content") if isinstance(token, dict) else token  # an AddedToken
    return token if isinstance(token, str) else None


def _pad_id(config: dict[str, Any]) -> int:
    pad_id = config.get("pad_token_id")
    return pad_id if isinstance(pad_id, int) and pad_id >= 0 else 0


def _first_int(config: dict[str, Any], names: tuple[str, ...], folder: Path) -> int:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    raise ModelNotSupported(f"{folder / 'config.json'}: names no {' or '.join(names)}")
