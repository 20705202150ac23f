"""Small tokenizers of each algorithm that models come with, trained here: the same each time."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import tokenizers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from service.models.reference.texts import SENTENCES

WORDS = 240  # of a vocabulary, special ones included
_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_ROBERTA = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}
_DECODER = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
_MASKS = {"bert": "[MASK]", "roberta": "<mask>", "unigram": "<mask>", "modern": "[MASK]"}

SPECIAL: Mapping[str, Mapping[str, str]] = {
    "bert": {**_BERT, "mask_token": "[MASK]"},
    "modern": {**_BERT, "mask_token": "[MASK]"},
    "roberta": {**_ROBERTA, "mask_token": "<mask>"},
    "unigram": {**_ROBERTA, "mask_token": "<mask>"},
    "decoder": _DECODER,
}
"""By kind: WordPiece · bytes with [CLS] · bytes with <s> · SentencePiece's unigrams · bytes, and
nothing in front."""


@functools.cache
def _trained(kind: str, *, cased: bool) -> str:
    special = list(dict.fromkeys(SPECIAL[kind].values()))
    given: dict[str, Any] = {"vocab_size": WORDS, "special_tokens": special, "show_progress": False}
    if kind == "bert":
        made = hf.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=not cased)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(**given)
    elif kind == "unigram":
        made = hf.Tokenizer(models.Unigram())
        made.normalizer = normalizers.Sequence([normalizers.NFKC()])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **given)
    else:
        made = hf.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(**(given | {"vocab_size": 300}), initial_alphabet=alphabet)
    made.train_from_iterator([*SENTENCES, *(text.lower() for text in SENTENCES)], trainer)
    return made.to_str()


def make(kind: str, *, cased: bool = False, ends: bool = True) -> hf.Tokenizer:
    """`ends`: a decoder's texts end with a token of their own, as Qwen3-Embedding's do."""
    made = hf.Tokenizer.from_str(_trained(kind, cased=cased))
    names, number = SPECIAL[kind], made.token_to_id
    if kind == "decoder":
        if ends:
            end = names["pad_token"]  # as there
            made.post_processor = processors.TemplateProcessing(
                single=f"$A {end}", pair=f"$A $B {end}", special_tokens=[(end, number(end))]
            )
        return made
    cls, sep = names["cls_token"], names["sep_token"]
    doubled = kind in ("roberta", "unigram")
    pair = f"{cls} $A {sep} {sep} $B {sep}" if doubled else f"{cls} $A {sep} $B:1 {sep}:1"
    made.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=pair,
        special_tokens=[(cls, number(cls)), (sep, number(sep))],
    )
    return made
