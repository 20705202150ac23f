"""Tiny models with random weights, made here: every kind is covered with no hub in reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "five"]
TINY_TEXTS = ["one", "two three four", "", "one two five four three two one four", "five five"]


def make_tiny(folder: Path, kind: str, pooling: str, *, normalize: bool) -> Path:
    """A model folder as the reference library itself writes it."""
    import torch
    import transformers

    sentence_transformers = pytest.importorskip("sentence_transformers")
    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
    }
    if kind == "qwen2":
        shape |= {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.AutoConfig.for_model(kind, **shape)
    transformers.AutoModel.from_config(config).save_pretrained(folder / "plain")

    tokenizer = Tokenizer(models.WordLevel(dict(zip(WORDS, range(99), strict=False)), "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder / "plain")

    modules = sentence_transformers.sentence_transformer.modules
    chain = [modules.Transformer(str(folder / "plain")), modules.Pooling(32, pooling)]
    if normalize:
        chain.append(modules.Normalize())
    sentence_transformers.SentenceTransformer(modules=chain, device="cpu").save(
        str(folder / "full"), create_model_card=False
    )
    return folder / "full"
