"""Where texts and pairs are cut, so that a part gives the tokens that all of it would. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from service.repository.json_files import ModelNotSupported
from service.tasks.input_errors import TextNotEncodable
from service.tasks.text_inputs import LONG_TEXT

# Characters; tokenising takes up to 450 bytes for each.
MOST_CHARACTERS = 1 << 20
PER_TOKEN = 6  # characters; first guess at a part that holds enough tokens; English has 4 to 5
_SPACES = " \n\t\r"
_SAMPLES = 1000  # tokens
# Tokens that a part must have more than will be used: for a tokenizer that looks further than the
# next white space, and where the part ends within a word: WordPiece takes a word of over 100
# characters for unknown, and what is left of it for as many tokens.
_SPARE, _SPARE_WITHIN = 8, 128


def growing_parts(
    text: str, tokens: int, *, at_words: bool, from_left: bool = False
) -> Iterator[tuple[str, int]]:
    """Beginnings (or ends) of a text that is likely to have more tokens than these, and how many
    each must have so that these are those of all of the text; none of a shorter text. Together they
    cost a third of the text at most.

    A part ends at white space where there is some: there a cut is certain not to change the tokens
    before it. Elsewhere, as in Chinese, it changes those next to it, which are not used. (In one
    word without end, `aaaaaaa…`, a tokenizer may choose another of equally likely ways to write
    it.) Raises TextNotEncodable for a text that is much longer and has no such part.
    """
    characters = PER_TOKEN * (tokens + _SPARE)
    most = max(MOST_CHARACTERS, characters)
    words = last_words if from_left else first_words
    while len(text) > characters and characters <= most:
        if at_words and (part := words(text, characters)):
            yield part, tokens + _SPARE
        elif len(text) > 2 * characters:
            part = text[-2 * characters :] if from_left else text[: 2 * characters]
            yield part, tokens + _SPARE_WITHIN
        characters *= 4
    check_characters(text, most)


def check_characters(text: str, most: int = MOST_CHARACTERS) -> None:
    """Raises TextNotEncodable."""
    if len(text) > most:
        raise TextNotEncodable(
            f"the text has {len(text)} characters, which is too many to look at each of its tokens:"
            f" at most {most}"
        )


def first_words(text: str, limit: int) -> str:
    """The beginning of a text longer than `limit` characters, up to the last place within them
    where white space follows a letter or digit; empty: there is none.

    Only there is a cut certain not to change the tokens before it: some tokenizers join
    punctuation to the line end behind it, or look at all of a run of spaces.
    """
    for end in range(limit, max(0, limit - LONG_TEXT), -1):
        if text[end] in _SPACES and text[end - 1].isalnum():
            return text[:end]
    return ""


def last_words(text: str, limit: int) -> str:
    """Its end, from the first such place within its last `limit` characters on; empty as above.
    The white space comes along: in many tokenizers it belongs to the word behind it."""
    earliest = len(text) - limit
    for start in range(earliest, min(len(text), earliest + LONG_TEXT)):
        if text[start] in _SPACES and text[start - 1].isalnum():
            return text[start:]
    return ""


def sample(tokenizer: Tokenizer) -> str:
    """A text that has a token, where there is one: not every vocabulary has the same letters."""
    for token in range(-1, _SAMPLES):
        text = "a" if token < 0 else tokenizer.decode([token])
        if text and tokenizer.encode(text, add_special_tokens=False).ids:
            return text
    return "a"  # every text is its special tokens alone


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after one text. Raises ModelNotSupported."""
    text = sample(tokenizer)
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    wrapped = tokenizer.encode(text).ids
    for start in range(len(wrapped) - len(plain) + 1):
        end = start + len(plain)
        if wrapped[start:end] == plain:
            return wrapped[:start], wrapped[end:]
    raise ModelNotSupported("tokenizer.json: its special tokens are not before and after the text")


def splits_at_whitespace(tokenizer: Tokenizer) -> bool:
    """Whether no token reaches over white space, so that a beginning can be tokenised alone."""
    state = json.loads(tokenizer.to_str())["pre_tokenizer"] or {}
    steps = state.get("pretokenizers", [state])
    return any(_is_whitespace_step(step) for step in steps)


def takes_ends(tokenizer: Tokenizer) -> bool:
    """Whether the end of a text, with the white space before it, can be tokenised alone as well:
    not where such white space is dropped and would have been a part of the next token."""

    def plain(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    text = sample(tokenizer)
    return splits_at_whitespace(tokenizer) and all(
        plain(f"{text}{spaces}{text}") == [*plain(text), *plain(f"{spaces}{text}")]
        for spaces in (" ", "\n", "  ")
    )


def _is_whitespace_step(step: dict[str, Any]) -> bool:
    kind = step.get("type")
    if kind == "ByteLevel":
        return bool(step.get("use_regex", True))
    if kind == "Metaspace":
        return bool(step.get("split", True))
    if kind == "Split":
        return r"\s" in str(step.get("pattern", {}).get("Regex", ""))
    return kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
