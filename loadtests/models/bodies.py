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
    without: tuple[str, ...] = ()  # of the usual fields


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
# Less common ones: swept through once for each task, not drawn.
MORE: Mapping[str, Body] = {
    "gte": Body("bert", types=True, fields={"type_vocab_size": 2}),
    "nomic_bert": Body("bert", types=True),
    "jina_embeddings_v3": Body("unigram", fields={"type_vocab_size": 1}),
    "eurobert": Body("decoder", fields=_LLAMA),
    "gemma3_text": Body("decoder", fields={**_LLAMA, "use_bidirectional_attention": True}),
    "gemma": Body("decoder", fields=_LLAMA),
    "gemma2": Body("decoder", fields=_LLAMA),
    "t5": Body(
        "unigram",
        fields={"d_model": HIDDEN, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 2},
    ),
    "mt5": Body(
        "unigram",
        fields={"d_model": HIDDEN, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 2},
    ),
    "gpt2": Body("decoder", fields={"n_embd": HIDDEN, "n_layer": 2, "n_head": 4}),
    "gpt_neox": Body("decoder"),
    "opt": Body("decoder", fields={"ffn_dim": 64, "word_embed_proj_dim": HIDDEN}),
    "phi": Body("decoder"),
    "phi3": Body("decoder"),
    "bloom": Body("decoder", fields={"n_layer": 2, "n_head": 4}),
    "deberta": Body("roberta"),
    "mobilebert": Body(
        "bert",
        types=True,
        fields={
            "embedding_size": 16,
            "intra_bottleneck_size": 16,
            "true_hidden_size": 16,
            "normalization_type": "layer_norm",
        },
    ),
    "roformer": Body("bert", types=True, fields={"embedding_size": HIDDEN}),
    "squeezebert": Body("bert", types=True, fields={"embedding_size": HIDDEN}),
    "convbert": Body("bert", types=True, fields={"embedding_size": HIDDEN, "conv_kernel_size": 3}),
    "big_bird": Body("unigram", types=True, fields={"attention_type": "original_full"}),
    "longformer": Body("roberta", 1, fields={"attention_window": [8, 8], "type_vocab_size": 1}),
    "ernie": Body("bert", types=True),
    "megatron-bert": Body("bert", types=True),
    "rembert": Body(
        "unigram", types=True, fields={"input_embedding_size": 16, "output_embedding_size": 16}
    ),
    "data2vec-text": Body("roberta", 1, fields={"type_vocab_size": 1}),
    "xlm-roberta-xl": Body("unigram", 1, fields={"type_vocab_size": 1}),
    "roberta-prelayernorm": Body("roberta", 1, fields={"type_vocab_size": 1}),
    "ibert": Body("roberta", 1, fields={"type_vocab_size": 1}),
    "xmod": Body(
        "unigram",
        1,
        fields={"type_vocab_size": 1, "languages": ["en_XX"], "default_language": "en_XX"},
    ),
    "nystromformer": Body(
        "bert", types=True, fields={"num_landmarks": 4, "segment_means_seq_len": 40}
    ),
    "yoso": Body("bert", types=True),
    "mra": Body("bert", types=True, fields={"type_vocab_size": 2}),
    "fnet": Body("unigram", types=True),
    "flaubert": Body("bert", fields={"emb_dim": HIDDEN, "n_layers": 2, "n_heads": 4}),
    "xlm": Body("bert", fields={"emb_dim": HIDDEN, "n_layers": 2, "n_heads": 4}),
    "xlnet": Body(
        "unigram",
        fields={"d_model": HIDDEN, "n_layer": 2, "n_head": 4, "d_inner": 64},
        without=("max_position_embeddings",),
    ),
    "layoutlm": Body("bert", types=True),
    "bart": Body(
        "roberta",
        fields={
            "d_model": HIDDEN,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
        },
    ),
}
ALL: Mapping[str, Body] = {**BODIES, **MORE}


def config_of(kind: str, tokenizer: Any, positions: int, **fields: Any) -> Any:
    """`tokenizer`: of transformers, for the numbers of its special tokens."""
    import transformers

    body = ALL[kind]
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
    shape = {name: value for name, value in shape.items() if name not in body.without}
    return transformers.AutoConfig.for_model(kind, **(shape | dict(body.fields) | fields))
