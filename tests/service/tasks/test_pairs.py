"""Pairs joined from the tokens of their texts, against those of the tokenizers library."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from service.tasks.input_errors import LimitTooLow, TextNotEncodable
from service.tasks.pairs import PairTemplate, Shared, ends, kept
from service.tasks.protocol import ModelInput, Options
from tests.service.tiny import as_text_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
SINGLE = "[CLS] $A [SEP]"
PAIRS = {
    "bert": "[CLS] $A [SEP] $B:1 [SEP]:1",
    "roberta": "[CLS] $A [SEP] [SEP] $B [SEP]",
    "xlnet": "$A [SEP] $B:1 [SEP]:1 [CLS]:2",
    "bare": "$A $B:1",
}


def of(pair: str, direction: str = "right", limit: int | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=SINGLE, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if limit is not None:
        tokenizer.enable_truncation(limit, strategy="longest_first", direction=direction)
    return tokenizer


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_is_joined_and_cut_as_the_library_does(kind: str, direction: str) -> None:
    plain = of(PAIRS[kind])
    template = PairTemplate.of(plain)
    assert template is not None
    for limit in (9, 12):
        library = of(PAIRS[kind], direction, limit)
        for counts in itertools.product((0, 1, 3, 4, 5, 9), repeat=2):
            texts = [" ".join("abcdefghij"[:count]) for count in counts]
            ids = [plain.encode(text, add_special_tokens=False).ids for text in texts]
            keep = kept(*counts, limit - template.special)
            cut = [
                ends(each, count, from_left=direction == "left")
                for each, count in zip(ids, keep, strict=True)
            ]
            expected: Any = library.encode(*texts)
            assert template.join(*cut) == (expected.ids, expected.type_ids), (texts, limit)


def test_a_vocabulary_without_the_letter_a_has_the_same_template() -> None:
    words = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "один": 3, "два": 4}
    tokenizer = Tokenizer(models.BPE(dict.fromkeys(words, 0) | words, []))
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.add_tokens(["один", "два"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=PAIRS["bert"], special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    assert tokenizer.encode("a", add_special_tokens=False).ids == []
    mine = as_text_tokenizer(tokenizer, vocab_size=5, max_length=7)
    assert _ids(mine.prepare("один" * 9)) == [0, *[3] * 5, 1]
    assert _ids(mine.prepare_pair("один" * 9, "два" * 9)) == [0, 3, 3, 1, 4, 4, 1]


def test_what_is_not_one_text_behind_the_other_is_refused() -> None:
    odd = of("[CLS] $B [SEP] $A [SEP]")
    assert PairTemplate.of(odd) is None
    with pytest.raises(TextNotEncodable, match="does not join texts"):
        as_text_tokenizer(odd, vocab_size=len(WORDS)).prepare_pair("a", "b")


def _ids(given: ModelInput) -> list[int]:
    assert isinstance(given.payload, np.ndarray)
    return given.payload.tolist()  # type: ignore[no-any-return]  # of integers


@pytest.mark.parametrize("direction", ["left", "right"])
def test_a_shared_text_gives_what_the_text_gives_and_is_tokenised_once(direction: Any) -> None:
    tokenizer = as_text_tokenizer(of(PAIRS["roberta"]), vocab_size=len(WORDS), max_length=9)
    encoded: list[str] = []
    inner = tokenizer._encode
    tokenizer._encode = lambda text, **more: (encoded.append(text), inner(text, **more))[1]  # type: ignore[method-assign]  # counted
    options = Options(truncation_direction=direction)
    text = "a b c d e f g h i j " * 50
    for long in (text + "a", "b c " * 400, "a b"):
        shared = Shared(text)
        for second in (long, "a", long):
            got = tokenizer.prepare_pair(shared, second, options)
            expected = tokenizer.prepare_pair(text, second, options)
            assert _ids(got) == _ids(expected)
        encoded.clear()
        tokenizer.prepare_pair(shared, "a", options)
        assert encoded == ["a"]


def test_a_shared_text_is_the_text() -> None:
    shared = Shared("a b")
    assert shared == "a b"
    assert shared.tokens is None
    assert of(PAIRS["bert"]).encode(shared, "c").ids == [2, 4, 5, 3, 6, 3]


@pytest.mark.parametrize("direction", ["left", "right"])
def test_a_call_may_cut_sooner_than_the_model_does(direction: Any) -> None:
    tokenizer = as_text_tokenizer(of(PAIRS["roberta"]), vocab_size=len(WORDS), max_length=12)
    first, second = "a b c d e f", "g h i j a b c d"
    for limit in range(5, 15):
        library = of(PAIRS["roberta"], direction, min(limit, 12))
        options = Options(truncation_direction=direction, max_tokens=limit)
        pair = tokenizer.prepare_pair(first, second, options)
        assert _ids(pair) == library.encode(first, second).ids
        assert _ids(tokenizer.prepare(second, options)) == library.encode(second).ids
        inner = [4 + "abcdefghij".index(word) for word in second.split()]
        assert _ids(tokenizer.prepare_ids(inner, options)) == library.encode(second).ids
    with pytest.raises(LimitTooLow, match="max_tokens: 4 leaves no token"):
        tokenizer.prepare_pair(first, second, Options(max_tokens=4))
    with pytest.raises(LimitTooLow, match="2 leaves no token of the text; at least 3"):
        tokenizer.prepare(first, Options(max_tokens=2))
