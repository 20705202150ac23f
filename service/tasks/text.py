"""From a text, or a caller's token ids, to the ids that a model eats: its own fast tokenizer.

Runs in the frontend: no torch, no transformers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.repository.spec import EncoderSpec, ModelNotSupported
from service.tasks.cutting import (
    MOST_CHARACTERS,
    PER_TOKEN,
    growing_parts,
    special_tokens,
    splits_at_whitespace,
    takes_ends,
)
from service.tasks.input_errors import LimitTooLow, TextNotEncodable, TextTooLong, UnknownPrompt
from service.tasks.pairs import PairTemplate, Shared, TextTokens, ends, first_cut, kept
from service.tasks.protocol import DEFAULT_OPTIONS, Direction, ModelInput, Options
from service.tasks.text_inputs import LONG_TEXT, MANY_IDS, check_ids, check_unicode

Ids = NDArray[np.int32]


class TextTokenizer:
    """The model's own fast tokenizer, as it is: padding and truncation stored with it are off."""

    long_text = LONG_TEXT

    def __init__(self, tokenizer: Tokenizer, spec: EncoderSpec) -> None:
        self.max_length = spec.max_length
        self.vocab_size = spec.vocab_size
        self._prompt = spec.prompt
        self._prompts = spec.prompts
        # Behind a prompt ids are a text again, and that is tokenised: 10 times the work.
        self.many_ids = MANY_IDS // 10 if any((spec.prompt, *spec.prompts.values())) else MANY_IDS
        self.cuts_left = spec.truncation_side == "left"  # a long text loses its beginning
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._before, self._after = special_tokens(tokenizer)
        self._room = self.max_length - len(self._before) - len(self._after)
        if self._room < 1:
            raise ModelNotSupported(f"{spec.folder}: a limit of {self.max_length} leaves no room")
        # Tokens added to the tokenizer only: the model has no row for them.
        self._may_overflow = tokenizer.get_vocab_size(with_added_tokens=True) > self.vocab_size
        self._pairs = PairTemplate.of(tokenizer)
        self._can_cut = splits_at_whitespace(tokenizer)
        self._can_cut_left = takes_ends(tokenizer)
        self._takes_token_types = spec.takes_token_types

    @classmethod
    def load(cls, spec: EncoderSpec) -> TextTokenizer:
        """About 50 ms. Sets TOKENIZERS_PARALLELISM=false unless it is set: one text at a time
        needs no thread pool, and the library would start one with a thread for every core."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        file = spec.tokenizer_file
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise ModelNotSupported(f"{file}: cannot be read: {error}") from error
        return cls(tokenizer, spec)

    @property
    def library(self) -> Tokenizer:
        """The tokenizer itself, without padding and truncation."""
        return self._tokenizer

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        return self._before, self._after

    @property
    def least_limit(self) -> int:
        """Tokens of which one is left for the text, of a pair too."""
        pair = self._pairs.special if self._pairs is not None else 0
        return max(len(self._before) + len(self._after), pair) + 1

    def prompt(self, name: str | None = None) -> str:
        """What goes before a text; None: the default. Raises UnknownPrompt."""
        if name is None:
            return self._prompt
        if name not in self._prompts:
            raise UnknownPrompt(name, self._prompts)
        return self._prompts[name]

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        if options is DEFAULT_OPTIONS:
            ids = self.encode(text)
        else:
            ids = self.encode(
                text,
                truncate=options.truncate,
                direction=options.truncation_direction,
                prompt=self.prompt(options.prompt_name),
                limit=self._limit(options.max_tokens, len(self._before) + len(self._after)),
            )
        return ModelInput(ids, len(ids))

    def prepare_pair(
        self, first: str, second: str, options: Options = DEFAULT_OPTIONS
    ) -> ModelInput:
        """Two texts as one input, the longer one cut first; the prompt is the first text's. Raises
        TextTooLong, TextNotEncodable, UnknownPrompt.

        Several arrays where the model tells the two apart by token types.
        """
        template = self._pairs
        if template is None:
            raise TextNotEncodable("is a pair, and this model's tokenizer does not join texts")
        prompt = self.prompt(options.prompt_name)
        from_left = self._is_left(options.truncation_direction)
        one = self._tokens(first, from_left, prompt)
        other = self._tokens(second, from_left)
        limit = self._limit(options.max_tokens, template.special)
        room = max(0, limit - template.special)
        counts, is_whole = (len(one.ids), len(other.ids)), one.is_whole and other.is_whole
        if sum(counts) > room:
            if not options.truncate or (options.only_first and counts[1] >= room):
                tokens = sum(counts) + template.special
                raise TextTooLong(tokens, limit, at_least=not is_whole)
            # Of two long texts the longer has one token more: only all of both say which that is.
            if not is_whole and min(counts) > room and room % 2:
                counts = self._count(prompt + first, one), self._count(second, other)
        keep = first_cut(*counts, room) if options.only_first else kept(*counts, room)
        found, kinds = template.join(
            ends(one.ids, keep[0], from_left=from_left),
            ends(other.ids, keep[1], from_left=from_left),
        )
        ids = self.as_ids(found)
        if self._takes_token_types and any(kinds):
            types = np.array(kinds, dtype=np.int32)
            return ModelInput({"input_ids": ids, "token_type_ids": types}, len(ids))
        return ModelInput(ids, len(ids))

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        """A caller's ids are a text's tokens: the prompt goes before them, the model's special
        tokens around them, so that the ids of a text give the text's own answer. Ids that come with
        special tokens have them once.

        Raises BadTokenId (all ids are looked at, those to be cut too) and TextTooLong.
        """
        check_ids(ids, self.vocab_size)
        inner = list(ids)
        if self._has_special_tokens(inner):
            inner = inner[len(self._before) : len(inner) - len(self._after)]
        if prompt := self.prompt(options.prompt_name):
            inner = self._behind(prompt, inner)
        special = len(self._before) + len(self._after)
        limit = self._limit(options.max_tokens, special)
        if len(inner) > (room := limit - special):
            if not options.truncate:
                raise TextTooLong(len(inner) + special, limit)
            if self._is_left(options.truncation_direction):
                del inner[: len(inner) - room]
            else:
                del inner[room:]
        array = self.as_ids([*self._before, *inner, *self._after])
        return ModelInput(array, len(array))

    def beginning(self, text: str, tokens: int) -> str:
        """As much of a text as holds so many tokens, special ones not counted; all of it where that
        is more than the model takes. Raises TextNotEncodable."""
        check_unicode(text)
        if tokens >= self.max_length:
            return text
        for part, enough in growing_parts(text, tokens, at_words=self._can_cut):
            found = self._tokenizer.encode_batch([part], add_special_tokens=False)[0]
            if len(found.ids) >= enough:
                break
        else:
            found = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
        return text if len(found.ids) <= tokens else text[: found.offsets[tokens - 1][1]]

    def encode(
        self,
        text: str,
        *,
        truncate: bool = True,
        direction: Direction | None = None,
        prompt: str | None = None,
        limit: int | None = None,
    ) -> Ids:
        """int32, special tokens included, never empty. None: the model's own.

        Cut exactly where cutting all of the text's tokens would cut. The empty text is its special
        tokens alone; a model that has none has no answer to it. Raises TextTooLong,
        TextNotEncodable.
        """
        if not text.isascii():
            check_unicode(text)
        from_left = self._is_left(direction)
        whole = (self._prompt if prompt is None else prompt) + text
        part, ids = self._part(whole, from_left)
        if ids is None:
            ids = self._encode(whole)
        if limit is None:
            limit = self.max_length
        if (excess := len(ids) - limit) > 0:
            if not truncate:
                raise TextTooLong(len(ids), limit, at_least=part is not whole)
            if from_left:
                del ids[len(self._before) : len(self._before) + excess]
            else:
                ids[limit - len(self._after) :] = self._after
        return self.as_ids(ids)

    def _limit(self, wanted: int | None, special: int) -> int:
        """Of all tokens. Raises LimitTooLow."""
        if wanted is not None and wanted <= special:
            raise LimitTooLow(wanted, special + 1)
        return self.max_length if wanted is None else min(wanted, self.max_length)

    def _is_left(self, direction: Direction | None) -> bool:
        return self.cuts_left if direction is None else direction == "left"

    def as_ids(self, ids: list[int]) -> Ids:
        """Raises TextNotEncodable for what the model has no row for."""
        if not ids:
            raise TextNotEncodable("the input has no tokens, and the model adds none of its own")
        array = np.array(ids, dtype=np.int32)
        if self._may_overflow and int(array.max()) >= self.vocab_size:
            token = self._tokenizer.id_to_token(int(array.max()))
            raise TextNotEncodable(f"the text holds {token!r}, which the model does not know")
        return array

    def _has_special_tokens(self, ids: list[int]) -> bool:
        before, after = len(self._before), len(self._after)
        if before + after == 0 or len(ids) < before + after:
            return False
        return ids[:before] == self._before and ids[len(ids) - after :] == self._after

    def _behind(self, prompt: str, ids: list[int]) -> list[int]:
        """The prompt and the text that has these ids, tokenised as one."""
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        # A space that some decoders write first is the tokenizer's, not the text's.
        for one in (text.removeprefix(" "), text):
            if self._encode(one, special=False) == ids:
                return self._encode(prompt + one, special=False)
        # They are no text's ids. White space at the prompt's end belongs to the first of them.
        return [*self._encode(prompt.rstrip(), special=False), *ids]

    def _part(self, text: str, from_left: bool) -> tuple[str, list[int] | None]:
        """One end of the text, with more tokens than will be used, and their ids; or all of it.
        Raises TextNotEncodable."""
        if len(text) <= PER_TOKEN * self.max_length:  # as most are
            return text, None
        at_words = self._can_cut_left if from_left else self._can_cut
        parts = growing_parts(text, self.max_length, at_words=at_words, from_left=from_left)
        for part, enough in parts:
            ids = self._encode(part)
            if len(ids) >= enough:
                return part, ids
        return text, None

    def _tokens(self, text: str, from_left: bool, prompt: str = "") -> TextTokens:
        """Of one text of a pair, at the end that is kept. Raises TextNotEncodable."""
        if isinstance(text, Shared) and text.tokens is not None:
            return text.tokens
        check_unicode(text)
        whole = prompt + text
        _, ids = self._part(whole, from_left)
        if ids is None:
            tokens = TextTokens(self._encode(whole, special=False), is_whole=True)
        else:
            inner = ids[len(self._before) : len(ids) - len(self._after)]
            tokens = TextTokens(inner, is_whole=False)
        if isinstance(text, Shared):
            text.tokens = tokens
        return tokens

    def _count(self, text: str, tokens: TextTokens) -> int:
        """Of all of the text; of one that is too long for that, its characters."""
        if tokens.count is None:
            if not tokens.is_whole and len(text) > MOST_CHARACTERS:
                return len(text)
            ids = tokens.ids if tokens.is_whole else self._encode(text, special=False)
            tokens.count = len(ids)
        return tokens.count

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        if len(text) <= LONG_TEXT:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        else:  # encode holds the interpreter lock for as long as it takes; this does not
            found = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)
            ids = found[0].ids
        return ids
