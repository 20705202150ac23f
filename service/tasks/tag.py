"""Token classification: texts in, a label for each token out; and what callers want of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from batcher import RunnerFailed
from service.errors import InputError
from service.tasks.cutting import check_characters
from service.tasks.entities import Entity, Piece, Strategy, entities_of, merged, softmax
from service.tasks.input_errors import TextTooLong
from service.tasks.protocol import ModelInput, Options
from service.tasks.text_inputs import check_unicode

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]

MANY_TOKENS = 256  # finding the entities among more takes longer than 1 ms


class Window(NamedTuple):
    """A text, or a part of it that the model can read at once."""

    ids: Ids  # special tokens included
    first: int  # the place of the text's token at `before` among all of the text's
    before: int  # special tokens that the window has in front of that one
    end: int  # the place in the window behind the last of the text's


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A text, all of its tokens, special ones included, and what the model reads of it."""

    text: str
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]  # characters of the text
    special: Sequence[int]  # 1: of the model, not of the text
    windows: Sequence[Window]


@dataclass(frozen=True, slots=True)
class Grouping:
    """What transformers' pipeline calls aggregation_strategy, ignore_labels and stride."""

    strategy: Strategy = "none"
    ignored: Sequence[str] = ("O",)
    stride: int | None = None  # tokens that two windows share; None: one window, cut at the limit


class TokenPreprocessor(Protocol):
    """TextTokenizer is one."""

    @property
    def max_length(self) -> int:
        """Tokens."""

    @property
    def long_text(self) -> int:
        """Characters; a longer text is prepared off the event loop."""

    @property
    def library(self) -> Tokenizer: ...

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""

    @property
    def cuts_left(self) -> bool:
        """A text over the limit loses its beginning, not its end."""

    def as_ids(self, ids: list[int]) -> Ids:
        """Raises TextNotEncodable for what the model has no row for."""


class Tag:
    name: ClassVar[str] = "tag"

    def __init__(
        self, preprocessor: TokenPreprocessor, labels: Sequence[str], unknown: str | None
    ) -> None:
        """`unknown`: the token for what the vocabulary has not; None: it has all."""
        self.labels = tuple(labels)
        self._preprocessor = preprocessor
        library = preprocessor.library
        self._unknown = None if unknown is None else library.token_to_id(unknown)
        # Whether a token that continues a word is marked (`##ing`), and so known.
        self._marks_parts = bool(getattr(library.model, "continuing_subword_prefix", None))
        self._decoder = library.decoder

    def preprocess(self, one: str | Window, options: Options) -> ModelInput:
        window = one if isinstance(one, Window) else self.tokenise(one, options).windows[0]
        return ModelInput(window.ids, len(window.ids))

    def is_heavy(self, inputs: Sequence[str | Window]) -> bool:
        return any(isinstance(one, str) for one in inputs)

    def result(self, value: object) -> Logits:
        """A row for each token of the window, a logit for each label."""
        logits = np.asarray(value)
        if logits.ndim != 2 or logits.shape[1] != len(self.labels) or logits.dtype.kind != "f":
            raise RunnerFailed(
                f"the runner answered {logits.dtype} of shape {logits.shape}, not a row for each"
                f" token and a logit for each of {len(self.labels)} labels"
            )
        return logits.astype(np.float32, copy=False)

    def are_long(self, texts: Sequence[str]) -> bool:
        """Whether to tokenise these off the event loop."""
        return sum(map(len, texts)) > self._preprocessor.long_text

    def tokenise(self, text: str, options: Options, stride: int | None = None) -> Tokenised:
        """Raises TextTooLong, TextNotEncodable."""
        check_unicode(text)
        check_characters(text)
        # `encode` would hold the interpreter lock for as long as it takes; this does not.
        [encoding] = self._preprocessor.library.encode_batch([text])
        windows = list(self._windows(encoding.ids, options, stride))
        special = encoding.special_tokens_mask
        return Tokenised(text, encoding.tokens, encoding.offsets, special, windows)

    def check_stride(self, grouping: Grouping) -> None:
        """Raises InputError."""
        room = self._room()
        if grouping.stride is not None and not 0 <= grouping.stride < room:
            raise InputError(f"must be from 0 to {room - 1} with this model", field="stride")

    def entities(
        self, tokenised: Tokenised, answers: Sequence[Logits], grouping: Grouping
    ) -> list[Entity]:
        """`answers`: of each window. Raises RunnerFailed."""
        found: list[Entity] = []
        for window, logits in zip(tokenised.windows, answers, strict=True):
            if len(logits) != len(window.ids):
                raise RunnerFailed(
                    f"the runner answered {len(logits)} rows for {len(window.ids)} tokens"
                )
            pieces = list(self._pieces(tokenised, window, softmax(logits)))
            strategy, ignored = grouping.strategy, grouping.ignored
            found += entities_of(pieces, self.labels, strategy, ignored, self._join)
        return merged(found) if len(tokenised.windows) > 1 else found

    def _room(self) -> int:
        before, after = self._preprocessor.frame
        return self._preprocessor.max_length - len(before) - len(after)

    def _windows(self, ids: list[int], options: Options, stride: int | None) -> Iterator[Window]:
        as_ids, limit = self._preprocessor.as_ids, self._preprocessor.max_length
        if len(ids) <= limit:
            yield Window(as_ids(ids), 0, 0, len(ids))
            return
        if stride is None and not options.truncate:
            raise TextTooLong(len(ids), limit)
        before, after = self._preprocessor.frame
        inner = ids[len(before) : len(ids) - len(after)]
        spans = _spans(len(inner), self._room(), stride, from_left=self._preprocessor.cuts_left)
        for start, end in spans:
            part = as_ids([*before, *inner[start:end], *after])
            yield Window(part, len(before) + start, len(before), len(part) - len(after))

    def _pieces(self, of: Tokenised, window: Window, scores: Logits) -> Iterator[Piece]:
        for index in range(window.before, window.end):
            place = window.first + index - window.before
            if of.special[place]:
                continue
            (start, end), word = of.offsets[place], of.tokens[place]
            written = of.text[start:end]
            if window.ids[index] == self._unknown:
                word, continues = written, False
            elif self._marks_parts:
                continues = len(word) != len(written)
            else:
                continues = start > 0 and " " not in of.text[start - 1 : start + 1]
            yield Piece(index, word, start, end, continues, scores[index])

    def _join(self, tokens: list[str]) -> str:
        if self._decoder is None:
            return " ".join(tokens)
        return str(self._decoder.decode(tokens))


def _spans(
    tokens: int, room: int, stride: int | None, *, from_left: bool
) -> Iterator[tuple[int, int]]:
    """The parts of a text that is too long, as the tokenizers library cuts it; without a stride the
    first of them."""
    if from_left:
        for start, end in _spans(tokens, room, stride, from_left=False):
            yield tokens - end, tokens - start
        return
    for start in range(0, tokens, room if stride is None else room - stride):
        yield start, min(tokens, start + room)
        if stride is None or start + room >= tokens:
            return
