"""Two backends: one for a text that runs alone, the other for all larger batches. See race.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.models.backends import Answers, Backend, Ids, Tokens, Types


class PairedBackend:
    """Both are in one precision: whichever runs, the answer is the same but for rounding.

    Has no `launch`: two streams of batches would share one set of cores.
    """

    def __init__(self, alone: Backend, together: Backend) -> None:
        self._alone, self._together = alone, together
        self.dtype = together.dtype

    @property
    def name(self) -> str:
        """It changes where a compiler fails in service."""
        return f"{self._alone.name}+{self._together.name}"

    @property
    def versions(self) -> str:
        return f"{self._alone.versions}; {self._together.versions}"

    def facts(self) -> Mapping[str, object]:
        """Of the larger batches': whether padding costs anything is for it to say."""
        shares = f"{self._alone.name} one text, {self._together.name} more"
        return {**self._together.facts(), "shares": shares}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return (self._alone if len(sequences) == 1 else self._together).forward(sequences, types)

    def with_tokens(self, sequences: Sequence[Ids], wanted: Sequence[int]) -> Tokens:
        return (self._alone if len(sequences) == 1 else self._together).with_tokens(
            sequences, wanted
        )

    def close(self) -> None:
        self._alone.close()
        self._together.close()
