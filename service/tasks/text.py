"""From a text, or a caller's token ids, to the ids that a model eats: its own fast tokenizer.

Runs in the frontend: no torch, no transformers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers

from service.repository.spec import EncoderSpec, ModelNotSupported
from service.tasks.input_errors import TextNotEncodable, TextTooLong
from service.tasks.protocol import ModelInput
from service.tasks.text_inputs import LONG_TEXT, check_ids, check_unicode

Ids = NDArray[np.int32]

CHARACTERS_PER_TOKEN = 6  # first guess at a prefix that holds enough tokens; English has 4 to 5
SPARE_TOKENS = 8


class TextTokenizer:
    """The model's own fast tokenizer, as it is: padding and truncation stored with it are off."""

    long_text = LONG_TEXT

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
        self._takes_token_types = spec.takes_token_types

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

    @property
    def library(self) -> Tokenizer:
        """The tokenizer itself, without padding and truncation."""
        return self._tokenizer

    def prompted(self, text: str) -> str:
        """What is tokenised for a text."""
        return self._prompt + text

    def prepare(self, text: str, *, truncate: bool) -> ModelInput:
        ids = self.encode(text, truncate=truncate)
        return ModelInput(ids, len(ids))

    def prepare_pair(self, first: str, second: str, *, truncate: bool) -> ModelInput:
        """Two texts as one input, the longer one cut first. Raises TextTooLong, TextNotEncodable.

        Several arrays where the model tells the two apart by token types.
        """
        check_unicode(first)
        check_unicode(second)
        texts = self._beginnings(first, second)
        # The library's own truncation is not used: it keeps what it cuts off, and joins each piece
        # of one text with each of the other (two texts of 5,000 words took 12 GB).
        if max(map(len, texts)) <= LONG_TEXT:
            encoding = self._tokenizer.encode(*texts)
        else:
            encoding = self._tokenizer.encode_batch_fast([texts])[0]
        found, kinds = encoding.ids, encoding.type_ids
        if len(found) > self.max_length:
            if not truncate:
                is_whole = texts == (first, second)
                raise TextTooLong(len(found), self.max_length, at_least=not is_whole)
            kept = _longest_first(encoding.sequence_ids, self.max_length)
            found, kinds = [found[place] for place in kept], [kinds[place] for place in kept]
        ids = self._as_ids(found)
        if self._takes_token_types and any(kinds):
            types = np.array(kinds, dtype=np.int32)
            return ModelInput({"input_ids": ids, "token_type_ids": types}, len(ids))
        return ModelInput(ids, len(ids))

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> ModelInput:
        array = self.validate_ids(ids, truncate=truncate)
        return ModelInput(array, len(array))

    def encode(self, text: str, *, truncate: bool) -> Ids:
        """int32, special tokens included, never empty.

        Cut exactly where cutting all of the text's tokens would cut. The empty text is its special
        tokens alone; a model that has none has no answer to it. Raises TextTooLong,
        TextNotEncodable.
        """
        if not text.isascii():
            check_unicode(text)
        ids, is_whole = self._encode_enough(self.prompted(text))
        if len(ids) > self.max_length:
            if not truncate:
                raise TextTooLong(len(ids), self.max_length, at_least=not is_whole)
            ids[self.max_length - len(self._after) :] = self._after
        return self._as_ids(ids)

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

    def _as_ids(self, ids: list[int]) -> Ids:
        array = _as_array(ids)
        if self._may_overflow and int(array.max()) >= self.vocab_size:
            token = self._tokenizer.id_to_token(int(array.max()))
            raise TextNotEncodable(f"the text holds {token!r}, which the model does not know")
        return array

    def _has_special_tokens(self, ids: list[int]) -> bool:
        before, after = len(self._before), len(self._after)
        if before + after == 0 or len(ids) < before + after:
            return False
        return ids[:before] == self._before and ids[len(ids) - after :] == self._after

    def _encode_enough(self, text: str) -> tuple[list[int], bool]:
        """All of the text's ids, or more than will be used; and whether it is all of them."""
        _, ids = self._beginning(text)
        return (self._encode(text), True) if ids is None else (ids, False)

    def _beginning(self, text: str) -> tuple[str, list[int] | None]:
        """A part that holds more tokens than will be used, and their ids; or all of the text."""
        characters = CHARACTERS_PER_TOKEN * self.max_length
        while self._can_cut and (end := _last_word_end(text, characters)):
            ids = self._encode(text[:end])
            # The spare ones are for a tokenizer that looks further than the next white space.
            if len(ids) >= self.max_length + SPARE_TOKENS:
                return text[:end], ids
            characters *= 4  # all prefixes together cost a third of the text at most
        return text, None

    def _beginnings(self, first: str, second: str) -> tuple[str, str]:
        """Parts of a pair that are cut where all of it would be cut."""
        parts = [self._beginning(text) for text in (first, second)]
        if all(ids is None for _, ids in parts):
            return first, second
        counts = [len(self._encode(part) if ids is None else ids) for part, ids in parts]
        # If both are too long, an odd token goes to the longer: only all of them say which that is.
        return (parts[0][0], parts[1][0]) if min(counts) < self.max_length else (first, second)

    def _encode(self, text: str) -> list[int]:
        if len(text) <= LONG_TEXT:
            ids: list[int] = self._tokenizer.encode(text).ids
        else:  # encode holds the interpreter lock for as long as it takes; this does not
            ids = self._tokenizer.encode_batch_fast([text])[0].ids
        return ids


def _longest_first(sequences: Sequence[int | None], limit: int) -> list[int]:
    """The places that remain of a pair, by the rule of the tokenizers library: the longer text is
    cut to the length of the other, then both equally. `sequences`: the text (0 or 1) of each token,
    None for a special one."""
    counts = sequences.count(0), sequences.count(1)
    room = max(0, limit - sequences.count(None))
    short = min(*counts, room // 2)
    kept = (short, room - short) if counts[0] <= counts[1] else (room - short, short)
    ends = [0, 0]
    places = []
    for place, text in enumerate(sequences):
        if text is None:
            places.append(place)
        elif ends[text] < kept[text]:
            ends[text] += 1
            places.append(place)
    return places


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
