"""One model, the settings that it is served with, and what is asked of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.models.folder import Folder
from service.models.reference.texts import SENTENCES

ALONE = (0, 1, 2, -1)  # places of the texts that are asked alone, too
QUERY = "Where do two dogs walk along the river?"


def texts_of_mixed_length(count: int = 64) -> list[str]:
    """The same each time; none is empty, the last few are over most limits."""
    chance, words = random.Random(5), " ".join(SENTENCES).split()
    made = ["Dogs", "ÀÉ ﬁne ½ naïve CAFÉ", "[SEP] </s> <pad> [MASK] <|im_end|>", "犬 🐕 x"]
    while len(made) < count:
        longest = 90 if len(made) > count - 8 else 24
        made.append(" ".join(chance.choices(words, k=chance.randint(1, longest))))
    return made


TEXTS = texts_of_mixed_length()


@dataclass(frozen=True)
class Case:
    folder: Folder
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the requests
    count: int = 64  # texts in one request

    @property
    def texts(self) -> list[str]:
        return [*TEXTS[:4], *TEXTS[4 - self.count :]]

    def describe(self) -> str:
        parts = [self.folder.describe()]
        parts += [f"BATCHER_{name.upper()}={value}" for name, value in self.settings.items()]
        return " ".join(parts + [f"{name}={value!r}" for name, value in self.options.items()])
