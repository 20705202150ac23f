"""For runners that take texts: the payload is the text itself, and a word counts as a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.tasks.input_errors import (
    DirectionNotTaken,
    IdsNotTaken,
    LimitNotTaken,
    TextTooLong,
    UnknownPrompt,
)
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.text_inputs import LONG_TEXT, MANY_IDS, check_ids, check_unicode

LONG_WORDS = 50 * LONG_TEXT  # characters; counting words is so much quicker than tokenising
SIMULATED_VOCAB = 30522
SIMULATED_MAX_LENGTH = 8192
SIMULATED_LABELS: Mapping[str, tuple[str, ...]] = {
    "classify": ("LABEL_0", "LABEL_1", "LABEL_2"),
    "image-classify": ("LABEL_0", "LABEL_1", "LABEL_2"),
    "score": ("LABEL_0",),
}
"""By the task; all others answer vectors."""
_BETWEEN = "\x1f"  # white space to str.split(), and in few texts


class SimulatedTokenizer:
    """The simulated accelerator's: a word is a token, and ids are words of digits."""

    long_text = LONG_WORDS
    many_ids = MANY_IDS

    def __init__(self, max_length: int = SIMULATED_MAX_LENGTH) -> None:
        self.max_length = max_length
        self.vocab_size = SIMULATED_VOCAB

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        if not text.isascii():
            check_unicode(text)
        if options.prompt_name is not None:
            raise UnknownPrompt(options.prompt_name, ())
        words = text.split()
        limit = min(self.max_length, options.max_tokens or self.max_length)
        if len(words) > limit:
            if not options.truncate:
                raise TextTooLong(len(words), limit)
            from_left = options.truncation_direction == "left"
            kept = words[-limit:] if from_left else words[:limit]
            return ModelInput(" ".join(kept), limit)
        return ModelInput(text, len(words) or 1)

    def prepare_pair(
        self, first: str, second: str, options: Options = DEFAULT_OPTIONS
    ) -> ModelInput:
        """The second comes first: a document may ask for a drill."""
        return self.prepare(f"{second}{_BETWEEN}{first}", options)

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        check_ids(ids, self.vocab_size)
        return self.prepare(" ".join(map(str, ids)), options)


class TextPassthrough:
    """A user's own runner's: it is given every text as it came, of any length."""

    max_length: int | None = None
    long_text = LONG_WORDS
    many_ids = MANY_IDS

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        """Never cut: only the runner knows its limit, if it has one."""
        if not text.isascii():
            check_unicode(text)
        if options.prompt_name is not None:
            raise UnknownPrompt(options.prompt_name, ())
        if options.truncation_direction == "left":
            raise DirectionNotTaken
        if options.max_tokens is not None:
            raise LimitNotTaken
        return ModelInput(text, len(text.split()) or 1)

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        """Raises IdsNotTaken: there is no tokenizer here that they could be of."""
        raise IdsNotTaken
