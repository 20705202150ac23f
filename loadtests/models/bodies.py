"""The transformers that models are made of, tiny and with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HIDDEN = 32


@dataclass(frozen=True)
class Body:
    tokenizer: str
    offset: int = 0  # positions that hold no token
    types: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("embed", "sparse", "score", "classify", "tag")


_LLAMA: Mapping[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
_ALL_LAYERS = ("full_attention", "full_attention")
_DECODED = ("embed", "score", "classify", "tag")
BODIES: Mapping[str, Body] = {
    "bert": Body("bert", types=True),
    "roberta": Body("roberta", 1, fields={"type_vocab_size": 1}),
    "xlm-roberta": Body("unigram", 1, fields={"type_vocab_size": 1}),
    "mpnet": Body("bert", 1),
    "distilbert": Body(
        "bert", fields={"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    ),
    "modernbert": Body(
        "modern",
        fields={
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "reference_compile": False,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ),
    "deberta-v2": Body(
        "unigram",
        types=False,
        fields={
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
    "electra": Body("bert", types=True, fields={"embedding_size": 16}),
    "albert": Body("unigram", types=True, fields={"embedding_size": 16}),
    "camembert": Body("unigram", 1, fields={"type_vocab_size": 1}),
    "qwen3": Body("decoder", fields=_LLAMA, tasks=_DECODED),
    "qwen2": Body("decoder", fields={"num_key_value_heads": 2}, tasks=_DECODED),
    "llama": Body("decoder", fields=_LLAMA, tasks=_DECODED),
    "mistral": Body("decoder", fields={**_LLAMA, "sliding_window": None}, tasks=_DECODED),
}


def config_of(kind: str, tokenizer: Any, positions: int, **fields: Any) -> Any:
    """`tokenizer`: of transformers, for the numbers of its special tokens."""
    import transformers

    body = BODIES[kind]
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": positions + body.offset * (tokenizer.pad_token_id + 1),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.3,  # far from 0: what tells two texts apart tells in the answers
    }
    return transformers.AutoConfig.for_model(kind, **(shape | dict(body.fields) | fields))
