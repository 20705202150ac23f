"""Tiny classifiers of tokens and of pairs, with random weights and tokenizers of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.service.tiny import config_of

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
ENDS = ["er", "ing", "in", "on", "ly", "ter"]
WHOLE = ["angela", "merkel", "berlin", "in", "the", "new", "york", "lives", "paris", ",", ".", "'"]

Kind = Literal["wordpiece", "bytes", "metaspace", "words"]


def tokenizer_of(kind: Kind) -> Any:
    """As transformers has it."""
    import transformers

    special = ["<pad>", "<unk>", "<s>", "</s>"]
    if kind == "wordpiece":
        words = [*special, *WHOLE, *LETTERS, *(f"##{part}" for part in (*LETTERS, *ENDS))]
        tokenizer = Tokenizer(models.WordPiece(_numbered(words), unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif kind == "bytes":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("e", "r"), ("i", "n"), ("in", "g"), ("Ġ", "b"), ("Ġb", "er"), ("l", "in")]
        vocabulary = [*special, *letters, *("".join(pair) for pair in merges)]
        tokenizer = Tokenizer(models.BPE(_numbered(vocabulary), merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif kind == "metaspace":
        pieces = [*special, "▁", *(f"▁{word}" for word in WHOLE), *LETTERS, *ENDS]
        scores = [(piece, -float(len(pieces) - len(piece))) for piece in pieces]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=1))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    else:  # without a decoder
        tokenizer = Tokenizer(models.WordLevel(_numbered([*special, *WHOLE]), "<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
    )


def make_tagger(folder: Path, kind: str, tokenizer: Kind = "wordpiece", **fields: Any) -> Path:
    import transformers

    own = tokenizer_of(tokenizer)
    config = config_of(
        kind,
        vocab_size=len(own),
        max_position_embeddings=40,
        initializer_range=0.3,
        id2label=dict(enumerate(LABELS)),
        label2id={label: place for place, label in enumerate(LABELS)},
        **fields,
    )
    transformers.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


NLI = {0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}


def make_nli(
    folder: Path, kind: str, tokenizer: Kind = "wordpiece", labels: dict[int, str] = NLI
) -> Path:
    """A classifier that says whether a text entails another."""
    import transformers

    own = tokenizer_of(tokenizer)
    config = config_of(
        kind,
        vocab_size=len(own),
        max_position_embeddings=40,
        initializer_range=0.3,
        id2label=labels,
        label2id={label: place for place, label in labels.items()},
    )
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def _numbered(words: list[str]) -> dict[str, int]:
    return {word: place for place, word in enumerate(dict.fromkeys(words))}
