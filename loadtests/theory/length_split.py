"""Texts of mixed length, and how little time batches of them can take. Pure; seconds and words."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOST_WORDS = 512
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Device:
    """A batch takes fixed + per_token x size x longest: each text is padded to the longest."""

    fixed: float
    per_token: float
    limit: int  # Texts in a batch.

    def time(self, size: int, longest: int) -> float:
        return self.fixed + self.per_token * size * longest


@dataclass(frozen=True, slots=True)
class Batched:
    """What it takes to run all of some texts in certain batches."""

    texts: int
    useful: int  # Tokens of the texts themselves.
    tokens: int  # As run, padding included.
    seconds: float

    @property
    def useful_share(self) -> float:
        return self.useful / self.tokens

    @property
    def rate(self) -> float:
        """Texts a second, if the device never rests."""
        return self.texts / self.seconds


def in_order(lengths: Sequence[int], device: Device) -> Batched:
    """Batches as the texts came, each as full as it may be: FIFO with a backlog."""
    limit = device.limit
    return _run([lengths[at : at + limit] for at in range(0, len(lengths), limit)], device)


def split(lengths: Sequence[int], device: Device, pool: int = 128) -> Batched:
    """Each `pool` of texts sorted and cut into the batches that take least time together.

    The best that a scheduler with so many texts in sight can do: `best[j] = min over k of
    best[k] + time(j - k, L_j)` over the sorted lengths (Fang et al., "TurboTransformers", 2021).
    """
    groups: list[Sequence[int]] = []
    for at in range(0, len(lengths), pool):
        groups += _best_groups(sorted(lengths[at : at + pool]), device)
    return _run(groups, device)


def _best_groups(lengths: Sequence[int], device: Device) -> list[Sequence[int]]:
    """Of sorted lengths. O(n x limit)."""
    best, cut = [0.0], [0]
    for end, longest in enumerate(lengths, start=1):
        starts = range(max(0, end - device.limit), end)
        least, start = min((best[k] + device.time(end - k, longest), k) for k in starts)
        best.append(least)
        cut.append(start)
    groups, end = list[Sequence[int]](), len(lengths)
    while end:
        groups.append(lengths[cut[end] : end])
        end = cut[end]
    return groups[::-1]


def _run(groups: Iterable[Sequence[int]], device: Device) -> Batched:
    texts = useful = tokens = 0
    seconds = 0.0
    for group in groups:
        longest = max(group)
        texts += len(group)
        useful += sum(group)
        tokens += len(group) * longest
        seconds += device.time(len(group), longest)
    return Batched(texts, useful, tokens, seconds)


def _log_normal(rng: Rng, count: int, median: float, sigma: float) -> list[int]:
    drawn = rng.lognormal(math.log(median), sigma, count)
    return [int(words) for words in np.clip(np.round(drawn), 1, MOST_WORDS)]


def _queries(rng: Rng, count: int) -> list[int]:
    return _log_normal(rng, count, 16, 0.6)


def _documents(rng: Rng, count: int) -> list[int]:
    return _log_normal(rng, count, 64, 1.0)


def _nine_to_one(rng: Rng, count: int) -> list[int]:
    short, is_long = _log_normal(rng, count, 20, 0.65), rng.random(count) < 0.1
    return [MOST_WORDS if much else few for few, much in zip(short, is_long, strict=True)]


def _uniform(rng: Rng, count: int) -> list[int]:
    return [int(words) for words in rng.integers(16, MOST_WORDS + 1, count)]


_MIXES: Mapping[str, Callable[[Rng, int], list[int]]] = {
    "queries": _queries,
    "lognormal": _documents,
    "90/10": _nine_to_one,
    "uniform": _uniform,
}
MIXES = tuple(_MIXES)


def mix(name: str, seed: int, count: int = 4096) -> list[int]:
    """Words of `count` texts.

    `queries`: log-normal, median 16; `lognormal`: median 64, sigma 1; `90/10`: short, but one in
    ten has 512; `uniform`: 16 to 512.
    """
    return _MIXES[name](np.random.default_rng(seed), count)


def text(number: int, words: int) -> str:
    """Exactly so many words, and no two texts alike."""
    return " ".join([str(number), *["word"] * (words - 1)])
