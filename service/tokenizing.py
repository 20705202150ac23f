"""From what a caller sends (text, or token ids) to a payload and its cost in tokens.

Runs in the front: no torch, no transformers. Two kinds behind one protocol, so that the HTTP layer
knows nothing of tokenizers: TextTokenizer for models that eat ids, WordCounter for the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers

from service.models.folder import find_model
from service.models.spec import EncoderSpec, ModelNotSupported, read_spec

Ids = NDArray[np.int32]

LONG_TEXT = 2000  # characters; about 1 ms of tokenising
CHARACTERS_PER_TOKEN = 6  # first guess at a prefix that holds enough tokens; English has 4 to 5
SPARE_TOKENS = 8
SIMULATED_VOCAB = 30522
SIMULATED_MAX_LENGTH = 8192


class InputRefused(ValueError):
    """The caller's input cannot be run as it is. The text is meant for the caller."""


class TextTooLong(InputRefused):
    """Over the model's limit, and the caller asked not to cut it."""

    def __init__(self, tokens: int, limit: int, *, at_least: bool = False) -> None:
        # A long text is refused at its first `limit` tokens: counting all of them is for nobody.
        self.tokens, self.limit, self.at_least = tokens, limit, at_least
        count = f"at least {tokens}" if at_least else str(tokens)
        super().__init__(f"the input has {count} tokens, the limit is {limit}")


class BadTokenId(InputRefused):
    """A token id that is no integer, or not in the vocabulary."""

    def __init__(self, position: int, value: object, vocab_size: int) -> None:
        self.position, self.value, self.vocab_size = position, value, vocab_size
        # Its digits only where they are few: whatever JSON can carry may stand here.
        is_short = type(value) is int and abs(value) < 2**63
        shown = str(value) if is_short else f"of type {type(value).__name__}"
        super().__init__(f"token {position} is {shown}, not an integer from 0 to {vocab_size - 1}")


class TextNotEncodable(InputRefused):
    """The text is no valid Unicode, or holds a token that the model has no row for."""


class Prepared(NamedTuple):
    """What goes to the runner, and what it costs."""

    payload: Any
    tokens: int


class Preparer(Protocol):
    """Checks and prepares one input. Safe to share between threads. Raises InputRefused only."""

    @property
    def max_length(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    def prepare(self, text: str, *, truncate: bool) -> Prepared:
        """The text, cut at max_length tokens if `truncate`, else TextTooLong."""

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> Prepared:
        """The caller's own token ids; each is checked: BadTokenId."""

    def is_long(self, text: str) -> bool:
        """Whether to prepare it off the event loop."""


def load_preparer(runner: str, model: str) -> Preparer:
    """For BATCHER_RUNNER and BATCHER_MODEL. Raises ModelNotFound, ModelNotSupported."""
    if runner == "transformers":
        return TextTokenizer.load(read_spec(find_model(model)))
    return WordCounter()  # the simulated accelerator's rule, and a user's own runner's


class Tokens(NamedTuple):
    """int32, special tokens included; never empty."""

    ids: Ids
    was_cut: bool


class TextTokenizer:
    """The model's own fast tokenizer, as it is: padding and truncation stored with it are off."""

    def __init__(self, tokenizer: Tokenizer, spec: EncoderSpec) -> None:
        self.max_length = spec.max_length
        self.vocab_size = spec.vocab_size
        self._prompt = spec.prompt
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if spec.lowercase:
            own = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        self._before, self._after = _special_tokens(tokenizer)
        self._room = self.max_length - len(self._before) - len(self._after)
        if self._room < 1:
            raise ModelNotSupported(f"{spec.folder}: a limit of {self.max_length} leaves no room")
        # Tokens added to the tokenizer only: the model has no row for them.
        self._may_overflow = tokenizer.get_vocab_size(with_added_tokens=True) > self.vocab_size
        self._can_cut = _splits_at_whitespace(tokenizer)

    @classmethod
    def load(cls, spec: EncoderSpec) -> TextTokenizer:
        """About 50 ms. Sets TOKENIZERS_PARALLELISM=false unless it is set: one text at a time
        needs no thread pool, and the library would start one with a thread for every core."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        file = spec.folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise ModelNotSupported(f"{file}: cannot be read: {error}") from error
        return cls(tokenizer, spec)

    def prepare(self, text: str, *, truncate: bool) -> Prepared:
        ids = self.encode(text, truncate=truncate).ids
        return Prepared(ids, len(ids))

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> Prepared:
        array = self.validate_ids(ids, truncate=truncate)
        return Prepared(array, len(array))

    def is_long(self, text: str) -> bool:
        return len(text) > LONG_TEXT

    def encode(self, text: str, *, truncate: bool) -> Tokens:
        """Cut exactly where cutting all of the text's tokens would cut.

        Raises TextTooLong, TextNotEncodable. The empty text is its special tokens alone; a model
        that has none has no answer to it.
        """
        check_unicode(text)
        ids, is_whole = self._encode_enough(self._prompt + text)
        was_cut = len(ids) > self.max_length
        if was_cut:
            if not truncate:
                raise TextTooLong(len(ids), self.max_length, at_least=not is_whole)
            ids[self.max_length - len(self._after) :] = self._after
        array = _as_array(ids)
        if self._may_overflow and int(array.max()) >= self.vocab_size:
            token = self._tokenizer.id_to_token(int(array.max()))
            raise TextNotEncodable(f"the text holds {token!r}, which the model does not know")
        return Tokens(array, was_cut)

    def validate_ids(self, ids: Sequence[int], *, truncate: bool) -> Ids:
        """A caller's ids are a text's tokens: the model's special tokens go around them, so that
        the ids of a text give the text's own answer. Ids that come with them are left as they are.

        Raises BadTokenId (all ids are looked at, those to be cut too) and TextTooLong.
        """
        check_ids(ids, self.vocab_size)
        inner = list(ids)
        if self._has_special_tokens(inner):
            inner = inner[len(self._before) : len(inner) - len(self._after)]
        if len(inner) > self._room:
            if not truncate:
                raise TextTooLong(len(inner) + self.max_length - self._room, self.max_length)
            del inner[self._room :]
        return _as_array([*self._before, *inner, *self._after])

    def _has_special_tokens(self, ids: list[int]) -> bool:
        before, after = len(self._before), len(self._after)
        if before + after == 0 or len(ids) < before + after:
            return False
        return ids[:before] == self._before and ids[len(ids) - after :] == self._after

    def _encode_enough(self, text: str) -> tuple[list[int], bool]:
        """All of the text's ids, or more than will be used; and whether it is all of them."""
        characters = CHARACTERS_PER_TOKEN * self.max_length
        while self._can_cut and (end := _last_word_end(text, characters)):
            ids = self._encode(text[:end])
            # The spare ones are for a tokenizer that looks further than the next white space.
            if len(ids) >= self.max_length + SPARE_TOKENS:
                return ids, False
            characters *= 4  # all prefixes together cost a third of the text at most
        return self._encode(text), True

    def _encode(self, text: str) -> list[int]:
        if len(text) <= LONG_TEXT:
            ids: list[int] = self._tokenizer.encode(text).ids
        else:  # encode holds the interpreter lock for as long as it takes; this does not
            ids = self._tokenizer.encode_batch_fast([text])[0].ids
        return ids


class WordCounter:
    """The payload is the text itself; a word is a token. For runners that take texts."""

    def __init__(self, max_length: int = SIMULATED_MAX_LENGTH) -> None:
        self.max_length = max_length
        self.vocab_size = SIMULATED_VOCAB

    def prepare(self, text: str, *, truncate: bool) -> Prepared:
        check_unicode(text)
        words = text.split()
        if len(words) > self.max_length:
            if not truncate:
                raise TextTooLong(len(words), self.max_length)
            return Prepared(" ".join(words[: self.max_length]), self.max_length)
        return Prepared(text, len(words) or 1)

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> Prepared:
        check_ids(ids, self.vocab_size)
        return self.prepare(" ".join(map(str, ids)), truncate=truncate)

    def is_long(self, text: str) -> bool:
        return len(text) > 50 * LONG_TEXT  # counting words is so much quicker


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raises BadTokenId for the first that is not an int (a bool is none) within the vocabulary."""
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) < vocab_size)):
        return
    for position, value in enumerate(ids):
        if type(value) is not int or not 0 <= value < vocab_size:
            raise BadTokenId(position, value, vocab_size)


def check_unicode(text: str) -> None:
    """Raises TextNotEncodable for a lone surrogate: JSON can carry one, UTF-8 cannot."""
    if text.isascii():  # known without looking: the common case costs nothing
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextNotEncodable(
            f"character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}): "
            "not valid Unicode"
        ) from None


def _as_array(ids: list[int]) -> Ids:
    if not ids:
        raise TextNotEncodable("the input has no tokens, and the model adds none of its own")
    return np.array(ids, dtype=np.int32)


def _last_word_end(text: str, limit: int) -> int:
    """The last place at or before `limit` where white space follows a letter or digit; 0: none.

    Only there is a cut certain not to change the tokens before it: some tokenizers join
    punctuation to the line end behind it, or look at all of a run of spaces.
    """
    if len(text) <= limit:
        return 0
    for end in range(limit, max(0, limit - LONG_TEXT), -1):
        if text[end] in " \n\t\r" and text[end - 1].isalnum():
            return end
    return 0


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after one text."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    wrapped = tokenizer.encode("a").ids
    for start in range(len(wrapped) - len(plain) + 1):
        end = start + len(plain)
        if wrapped[start:end] == plain:
            return wrapped[:start], wrapped[end:]
    raise ModelNotSupported("tokenizer.json: its special tokens are not before and after the text")


def _splits_at_whitespace(tokenizer: Tokenizer) -> bool:
    """Whether no token reaches over white space, so that a prefix can be tokenised alone."""
    state = json.loads(tokenizer.to_str())["pre_tokenizer"] or {}
    steps = state.get("pretokenizers", [state])
    return any(_is_whitespace_step(step) for step in steps)


def _is_whitespace_step(step: dict[str, Any]) -> bool:
    kind = step.get("type")
    if kind == "ByteLevel":
        return bool(step.get("use_regex", True))
    if kind == "Metaspace":
        return bool(step.get("split", True))
    if kind == "Split":
        return r"\s" in str(step.get("pattern", {}).get("Regex", ""))
    return kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
