"""What a text, or a list of token ids, may break. The rules are meant for the caller."""

from __future__ import annotations

from collections.abc import Iterable

from service.errors import InputError, json_kind, quote


class TextTooLong(InputError):
    """Over the model's limit, and the caller asked not to cut it."""

    def __init__(self, tokens: int, limit: int, *, at_least: bool = False) -> None:
        # A long text is refused at its first `limit` tokens: the rest is not counted.
        self.tokens, self.limit, self.at_least = tokens, limit, at_least
        count = f"at least {tokens}" if at_least else str(tokens)
        super().__init__(f"the input has {count} tokens, the limit is {limit}")


class TooManyInputs(InputError):
    """More than one request may have."""

    def __init__(self, count: int, limit: int, field: str) -> None:
        self.count, self.limit = count, limit
        rule = (
            f"{count} inputs; one request may have at most {limit}"
            " (BATCHER_MAX_CLIENT_BATCH_SIZE, and no more than BATCHER_MAX_QUEUE_SIZE)"
        )
        super().__init__(rule, field=field, kind="too_many_inputs")


class NotPositive(InputError):
    """A number that must be."""


class TooManyDimensions(InputError):
    """More than the model's vectors have."""

    def __init__(self, wanted: int, known: int) -> None:
        rule = f"the model's vectors have {known}, fewer than {wanted}"
        super().__init__(rule, field="dimensions", kind="invalid_request")


class BadTokenId(InputError):
    """A token id that is not an integer, or not in the vocabulary."""

    def __init__(self, position: int, value: object, vocab_size: int) -> None:
        self.position, self.value, self.vocab_size = position, value, vocab_size
        if type(value) is not int:
            rule = f"token {position} must be an integer, not {json_kind(value)}"
            super().__init__(rule, kind="invalid_request")
            return
        # Its digits only where they are few: whatever JSON can carry may stand here.
        shown = str(value) if abs(value) < 2**63 else "of type int"
        super().__init__(f"token {position} is {shown}, not an integer from 0 to {vocab_size - 1}")


class TextNotEncodable(InputError):
    """The text is not valid Unicode, holds a token that the model has no row for, or is too long to
    be looked at token by token."""


class OptionError(InputError):
    """An option is at fault, whichever input it was met with. `field` is its name in Options; a
    protocol that calls it something else says so in its ErrorFormat."""

    def at(self, field: str) -> InputError:
        return self


class UnknownPrompt(OptionError):
    """The model has no prompt of that name."""

    def __init__(self, name: str, there: Iterable[str]) -> None:
        names = ", ".join(map(quote, there))
        has = f"the model has {names}" if names else "the model has no prompts"
        super().__init__(f"there is no prompt {quote(name)}; {has}", field="prompt_name")


class LimitTooLow(OptionError):
    """So few tokens that none of the text is left."""

    def __init__(self, limit: int, least: int) -> None:
        rule = f"{limit} leaves no token of the text; at least {least} are needed"
        super().__init__(rule, field="max_tokens")


class LimitNotTaken(OptionError):
    """The runner takes whole texts."""

    def __init__(self) -> None:
        rule = "this model gets whole texts: without a tokenizer they cannot be cut to a length"
        super().__init__(rule, field="max_tokens")


class DirectionNotTaken(OptionError):
    """The runner takes whole texts, and cuts them as it likes."""

    def __init__(self) -> None:
        rule = "this model gets whole texts and cuts them itself: the end cannot be chosen"
        super().__init__(rule, field="truncation_direction")


class IdsNotTaken(InputError):
    """Token ids, where the runner takes texts."""

    def __init__(self) -> None:
        super().__init__("token ids are not taken: this model takes texts")
