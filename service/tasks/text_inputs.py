"""The text inputs of a request: their shapes, and how one becomes a ModelInput.

The preprocessors are TextTokenizer (text.py) for models that take token ids, and those of
plain_text.py for runners that take texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service.errors import InputError, json_kind
from service.tasks.input_errors import BadTokenId, TextNotEncodable, TextTooLong, TooManyInputs
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options

TextInput = str | list[int]

LONG_TEXT = 2000  # characters; about 1 ms of tokenising
_MANY = 32  # inputs; more are tokenised off the event loop, as a long text is
MANY_IDS = 4096  # token ids, of all inputs together; checking that many takes about 1 ms


class TextPreprocessor(Protocol):
    """Checks and prepares one input. Safe to share between threads. Raises InputError only."""

    @property
    def max_length(self) -> int | None:
        """Tokens; None: only the runner knows."""

    @property
    def long_text(self) -> int:
        """Characters; a longer text is prepared off the event loop."""

    @property
    def many_ids(self) -> int:
        """Token ids, of all inputs together; more are prepared off the event loop."""

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        """The text, cut at the model's limit or, as the options say, TextTooLong. Raises
        UnknownPrompt and DirectionNotTaken for options that it cannot do."""

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        """The caller's own token ids; each is checked: BadTokenId, or IdsNotTaken."""


def prepare_ids(preprocessor: TextPreprocessor, one: list[int], options: Options) -> ModelInput:
    """Raises InputError."""
    limit = preprocessor.max_length
    if not options.truncate and limit is not None and len(one) > limit:  # before a look at each
        raise TextTooLong(len(one), limit, at_least=True)
    try:
        return preprocessor.prepare_ids(one, options)
    except BadTokenId as error:
        if type(error.value) is not float:
            raise
    # Only now: the common list of ids is not walked over for the rare one that says 7.0.
    return preprocessor.prepare_ids([whole(value) for value in one], options)  # type: ignore[misc]  # checked there


def are_heavy(preprocessor: TextPreprocessor, inputs: Sequence[TextInput]) -> bool:
    if len(inputs) > _MANY:
        return True
    ids = 0
    for one in inputs:
        if not isinstance(one, str):
            ids += len(one)
        elif len(one) > preprocessor.long_text:
            return True
    return ids > preprocessor.many_ids


def parse(value: object, field: str, limit: int) -> list[TextInput]:
    """A text, a list of token ids, or a list of these; at most `limit`. Raises InputError.

    Token ids are not looked at one by one: the preprocessor does that.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise malformed(field, "a text, a list of token ids, or a list of these", value)
    if not value:
        raise InputError("is empty; at least one is needed", field=field, kind="empty")
    if type(value[0]) in (int, float):
        return [_ids(value, field)]
    check_count(len(value), field, limit)
    return [
        one if isinstance(one, str) else _ids(one, f"{field}[{index}]")
        for index, one in enumerate(value)
    ]


def parse_texts(value: object, field: str, limit: int) -> list[str]:
    """A text, or a list of at most `limit` texts. Raises InputError."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise malformed(field, "a text or a list of texts", value)
    check_count(len(value), field, limit)
    return parse_list(value, field)


def parse_list(value: object, field: str) -> list[str]:
    """A list of texts, of any length. Raises InputError."""
    if not isinstance(value, list):
        raise malformed(field, "a list of texts", value)
    if not value:
        raise InputError("is empty; at least one is needed", field=field, kind="empty")
    for place, text in enumerate(value):
        if not isinstance(text, str):
            raise malformed(f"{field}[{place}]", "a text", text)
    return value


def check_count(count: int, field: str, limit: int) -> None:
    if count > limit:
        raise TooManyInputs(count, limit, field)


def malformed(field: str, wanted: str, value: object) -> InputError:
    rule = f"must be {wanted}, not {json_kind(value)}"
    return InputError(rule, field=field, kind="invalid_request")


def whole(value: object) -> object:
    """JSON has one kind of number: 8.0 is an integer (JSON Schema, validation, section 6.1.1)."""
    return int(value) if type(value) is float and value.is_integer() else value


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raises BadTokenId for the first that is not an int (a bool is not) within the vocabulary."""
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) < vocab_size)):
        return
    for position, value in enumerate(ids):
        if type(value) is not int or not 0 <= value < vocab_size:
            raise BadTokenId(position, value, vocab_size)


def check_unicode(text: str) -> None:
    """Raises TextNotEncodable for a lone surrogate: JSON can carry one, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextNotEncodable(
            f"character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}): "
            "not valid Unicode"
        ) from None


def _ids(value: object, field: str) -> list[int]:
    if not isinstance(value, list):
        raise malformed(field, "a text or a list of token ids", value)
    if not value:
        raise InputError("is an empty list of token ids", field=field, kind="empty")
    return value
