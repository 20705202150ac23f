"""From what a caller sends (text, or token ids) to a payload and its cost in tokens: the contract.

One protocol, so that the HTTP layer knows nothing of tokenizers. tokenizing.py: for models that eat
ids; words.py: for runners that take texts. serving.py decides which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from service.tasks.input_errors import BadTokenId, TextNotEncodable

LONG_TEXT = 2000  # characters; about 1 ms of tokenising


class Prepared(NamedTuple):
    """What goes to the runner, and what it costs."""

    payload: Any
    tokens: int


class Preparer(Protocol):
    """Checks and prepares one input. Safe to share between threads. Raises InputRefused only."""

    def prepare(self, text: str, *, truncate: bool) -> Prepared:
        """The text, cut at the model's limit if `truncate`, else TextTooLong."""

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> Prepared:
        """The caller's own token ids; each is checked: BadTokenId, or IdsNotTaken."""

    def is_long(self, text: str) -> bool:
        """Whether to prepare it off the event loop."""


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
