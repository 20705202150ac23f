"""A text's tokens with their places in it, and texts from token ids: what a tokenizer does alone,
without a model. Both may take long for long input: see LONG_TEXT."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from service.tasks.cutting import check_characters
from service.tasks.input_errors import BadTokenId
from service.tasks.text_inputs import check_ids, check_unicode

_IDS = 1 << 32  # of the tokenizers library


class Token(NamedTuple):
    """`text`: of a special token its name, else the part of the text that it stands for.
    `start`, `stop`: bytes of the text in UTF-8; None of a special token."""

    id: int
    text: str
    is_special: bool
    start: int | None
    stop: int | None


def tokens_of(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> Iterator[Token]:
    """All of the text: none is cut off. Raises TextNotEncodable."""
    check_unicode(text)
    check_characters(text)
    # `encode` would hold the interpreter lock for as long as it takes; this does not.
    [encoding] = tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
    place = _byte_places(text)
    rows = zip(
        encoding.ids,
        encoding.tokens,
        encoding.special_tokens_mask,
        encoding.offsets,
        strict=True,
    )
    for token_id, name, is_special, (start, stop) in rows:
        if is_special:
            yield Token(token_id, name, True, None, None)
        else:
            yield Token(token_id, text[start:stop], False, place[start], place[stop])


def _byte_places(text: str) -> Sequence[int]:
    """Of each character, and of the end."""
    if text.isascii():
        return range(len(text) + 1)
    return list(itertools.accumulate(map(_bytes_of, text), initial=0))


def _bytes_of(character: str) -> int:
    """In UTF-8."""
    return 1 + (character > "\x7f") + (character > "\u07ff") + (character > "\uffff")


def decode(tokenizer: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
    """Raises BadTokenId: the library leaves out in silence what it does not know."""
    check_ids(ids, _IDS)
    for place, one in enumerate(ids):
        if tokenizer.id_to_token(one) is None:
            raise BadTokenId(place, one, tokenizer.get_vocab_size())
    # As above: `decode` would hold the lock.
    [text] = tokenizer.decode_batch([ids], skip_special_tokens=skip_special_tokens)
    return str(text)
