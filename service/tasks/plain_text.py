"""For runners that take texts: the payload is the text itself, and a word counts as a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.tasks.input_errors import IdsNotTaken, TextTooLong
from service.tasks.protocol import ModelInput
from service.tasks.text_inputs import LONG_TEXT, check_ids, check_unicode

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

    def __init__(self, max_length: int = SIMULATED_MAX_LENGTH) -> None:
        self.max_length = max_length
        self.vocab_size = SIMULATED_VOCAB

    def prepare(self, text: str, *, truncate: bool) -> ModelInput:
        if not text.isascii():
            check_unicode(text)
        words = text.split()
        if len(words) > self.max_length:
            if not truncate:
                raise TextTooLong(len(words), self.max_length)
            return ModelInput(" ".join(words[: self.max_length]), self.max_length)
        return ModelInput(text, len(words) or 1)

    def prepare_pair(self, first: str, second: str, *, truncate: bool) -> ModelInput:
        """The second comes first: a document may ask for a drill."""
        return self.prepare(f"{second}{_BETWEEN}{first}", truncate=truncate)

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> ModelInput:
        check_ids(ids, self.vocab_size)
        if len(ids) > self.max_length and not truncate:
            raise TextTooLong(len(ids), self.max_length)
        return self.prepare(" ".join(map(str, ids[: self.max_length])), truncate=truncate)


class TextPassthrough:
    """A user's own runner's: it is given every text as it came, of any length."""

    max_length: int | None = None
    long_text = LONG_WORDS

    def prepare(self, text: str, *, truncate: bool) -> ModelInput:
        """Never cut: only the runner knows its limit, if it has one."""
        if not text.isascii():
            check_unicode(text)
        return ModelInput(text, len(text.split()) or 1)

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> ModelInput:
        """Raises IdsNotTaken: there is no tokenizer here that they could be of."""
        raise IdsNotTaken
