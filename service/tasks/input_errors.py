"""Why an input cannot be run as it is. The texts are meant for the caller."""

from __future__ import annotations


class InputRefused(ValueError):
    """The input is at fault, not the service: 422."""


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


class IdsNotTaken(InputRefused):
    """Token ids, where the runner takes texts."""

    def __init__(self) -> None:
        super().__init__("token ids are not taken: this model takes texts")
