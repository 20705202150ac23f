"""Tiny models with random weights, made here: every kind is covered with no hub in reach."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from service.repository import inspection
from service.repository.folder import Wanted
from service.repository.spec import EncoderSpec
from service.tasks.text import TextTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "five"]
# transformers makes a tokenizer of bytes for these whatever was saved: then it has letters to make.
LETTERS = [*WORDS[:4], *"etaoinshrdluwfv", "Ġ"]
OF_LETTERS = frozenset({"qwen2", "qwen3", "gpt2"})
TINY_TEXTS = ["one", "two three four", "", "one two five four three two one four", "five five"]


def read_spec(folder: Path, task: str = "auto", **wanted: Any) -> EncoderSpec:
    """As the service reads it, and in this process: see run_here."""
    return inspection.inspect(
        folder, Wanted(task, **wanted), os.environ["BATCHER_CACHE_DIR"], lambda line: None
    )


def run_here(folder: Path, wanted: Wanted, made: Path) -> None:
    """Stands in for inspection.run: a process of its own would import the reference each time."""
    from service.models.reference.inspect import inspect_here

    try:
        inspect_here(folder, wanted, made)
    except inspection.ModelNotSupported as error:
        (made / inspection.REFUSAL).write_text(str(error))


def make_tiny(folder: Path, kind: str, pooling: str, *, normalize: bool) -> Path:
    """A sentence encoder's folder as the reference library itself writes it."""
    import transformers

    sentence_transformers = pytest.importorskip("sentence_transformers")
    transformers.AutoModel.from_config(config_of(kind)).save_pretrained(folder / "plain")
    _save_tokenizer(folder / "plain", kind)
    modules = sentence_transformers.sentence_transformer.modules
    chain = [modules.Transformer(str(folder / "plain")), modules.Pooling(32, pooling)]
    if normalize:
        chain.append(modules.Normalize())
    sentence_transformers.SentenceTransformer(modules=chain, device="cpu").save(
        str(folder / "full"), create_model_card=False
    )
    return folder / "full"


def make_classifier(folder: Path, kind: str, labels: int = 3, **fields: Any) -> Path:
    """A text classifier's folder as transformers writes it; `fields`: of its config."""
    import transformers

    # Far from 0, so that what tells two inputs apart tells in their logits.
    config = config_of(kind, num_labels=labels, initializer_range=0.3, **fields)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    _save_tokenizer(folder, kind)
    return folder


SPELLED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "é", "né", "𝄞"]


def word_tokenizer(**fields: Any) -> TextTokenizer:
    """Of words, by their places in SPELLED; `fields`: of its spec."""
    vocabulary = {name: place for place, name in enumerate(SPELLED)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return as_text_tokenizer(tokenizer, **{"vocab_size": len(SPELLED), **fields})


def as_text_tokenizer(tokenizer: Tokenizer, **fields: Any) -> TextTokenizer:
    spec = EncoderSpec(
        **{
            "folder": Path(),
            "pooling": "mean",
            "normalize": True,
            "max_length": 8,
            "dimension": 8,
            "pad_id": 0,
            "prompt": "",
            **fields,
        }
    )
    return TextTokenizer(tokenizer, spec)


def make_masked(folder: Path, kind: str, **fields: Any) -> Path:
    """A masked language model's folder as transformers writes it."""
    import transformers

    config = config_of(kind, initializer_range=0.3, **fields)  # else no logit is far from 0
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    _save_tokenizer(folder, kind)
    return folder


def make_sparse(
    folder: Path, kind: str, pooling: str = "max", activation: str = "relu", **saved: Any
) -> Path:
    """A sparse encoder's folder as the reference library writes it; `saved`: of the whole model,
    such as max_active_dims."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    base, sparse = sentence_transformers.base.modules, sentence_transformers.sparse_encoder.modules
    plain = str(make_masked(folder / "plain", kind))
    model = sentence_transformers.SparseEncoder(
        modules=[
            base.Transformer(plain, transformer_task="fill-mask"),
            sparse.SpladePooling(pooling, activation_function=activation),
        ],
        device="cpu",
        **saved,
    )
    model.save(str(folder / "full"), create_model_card=False)
    return folder / "full"


def config_of(kind: str, **fields: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "vocab_size": len(LETTERS if kind in OF_LETTERS else WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
    }
    if kind == "qwen2":
        shape |= {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.AutoConfig.for_model(kind, **(shape | fields))


def _save_tokenizer(folder: Path, kind: str) -> None:
    import transformers

    if kind in OF_LETTERS:
        letters = {letter: place for place, letter in enumerate(LETTERS)}
        tokenizer = Tokenizer(models.BPE(letters, [], unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer = Tokenizer(models.WordLevel(dict(zip(WORDS, range(99), strict=False)), "[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = "[CLS] $A [SEP] [SEP] $B [SEP]" if kind == "roberta" else "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    has_types = kind in ("bert", "electra")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", *["token_type_ids"] * has_types, "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
