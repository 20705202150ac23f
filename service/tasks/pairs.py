"""Two texts as one input: what stands around them, and how much of each is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from service.tasks.cutting import sample


class Shared(str):
    """A text that is in many pairs of one call, such as a query: tokenised with the first."""

    __slots__ = ("tokens",)

    tokens: TextTokens | None

    def __new__(cls, text: str) -> Shared:
        made = super().__new__(cls, text)
        made.tokens = None
        return made


@dataclass(slots=True)
class TextTokens:
    """Of one text, without special tokens. Of a long one, more than will be used, at the end that
    is kept; `count` is then of all, once it was asked for."""

    ids: list[int]
    is_whole: bool
    count: int | None = None


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """The special tokens before, between and after two texts, and the types of those and of the
    texts: before, first, between, second, after."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PairTemplate | None:
        """None: a pair is not one text behind the other. Raises ModelNotSupported."""
        text = sample(tokenizer)
        encoding = tokenizer.encode(text, text)
        texts, ids, types = encoding.sequence_ids, encoding.ids, encoding.type_ids
        if 0 in texts and 1 in texts:
            starts = texts.index(0), texts.index(1)
            ends = [len(texts) - texts[::-1].index(text) for text in (0, 1)]
            first, second = slice(starts[0], ends[0]), slice(starts[1], ends[1])
            between, after = slice(ends[0], starts[1]), slice(ends[1], None)
            before = slice(starts[0])
            if set(texts[first]) == {0} and set(texts[second]) == {1} and ends[0] <= starts[1]:
                return cls(
                    tuple(ids[before]),
                    tuple(ids[between]),
                    tuple(ids[after]),
                    (
                        tuple(types[before]),
                        types[starts[0]],
                        tuple(types[between]),
                        types[starts[1]],
                        tuple(types[after]),
                    ),
                )
        return None

    @property
    def special(self) -> int:
        """How many tokens are not of the texts."""
        return len(self.before) + len(self.between) + len(self.after)

    def join(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
        """The ids, and their types."""
        types = self.types
        return (
            [*self.before, *first, *self.between, *second, *self.after],
            [
                *types[0],
                *[types[1]] * len(first),
                *types[2],
                *[types[3]] * len(second),
                *types[4],
            ],
        )


def kept(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens of two texts in `room`, by the rule of the tokenizers library (longest_first): the
    longer is cut to the length of the other, then both equally; an odd token is the longer one's,
    of equal ones the second's."""
    if first + second <= room:
        return first, second
    short = min(first, second, room // 2)
    return (short, room - short) if first <= second else (room - short, short)


def first_cut(first: int, second: int, room: int) -> tuple[int, int]:
    """The same, where the second is never cut and leaves room for a token of the first."""
    return min(first, room - second), second


def ends(ids: list[int], count: int, *, from_left: bool) -> list[int]:
    """As many of them, cut off on the left or on the right."""
    return ids[len(ids) - count :] if from_left else ids[:count]
