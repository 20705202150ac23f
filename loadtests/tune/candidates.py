"""Which settings are worth a look on this device, seen from what the default did. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.tune.search import Candidate

SIZE, TOKENS = "BATCHER_MAX_BATCH_SIZE", "BATCHER_MAX_BATCH_TOKENS"
WAIT, THREADS = "BATCHER_MAX_WAIT_MS", "BATCHER_THREADS"
TUNED = (SIZE, TOKENS, WAIT, THREADS)

WAIT_SHARE = 0.1  # Of the target: what those who set a max_wait commonly give away.
QUICK = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """The default service at its limit. `threads` None: not a CPU, or not to be tuned."""

    max_batch_size: int
    largest_batch: int
    largest_tokens: int | None  # Padded, of one batch; None: texts are of one length, or unknown.
    threads: int | None
    cores: int


def alternatives(seen: Seen, target_ms: float, quick: bool) -> list[Candidate]:
    """One setting changed at a time, the likeliest first; what could not bind is not among them."""
    kinds = [
        [Candidate(((THREADS, str(count)),)) for count in _threads(seen)],
        [Candidate(((TOKENS, str(budget)),)) for budget in _halves(seen.largest_tokens or 0, 64)],
        [Candidate(((SIZE, str(size)),)) for size in _sizes(seen)],
    ]
    turns = [each for turn in range(2) for kind in kinds for each in kind[turn : turn + 1]]
    # Among the others as an equal: that 0 is right is for the measurement to say.
    waiting = Candidate(((WAIT, f"{target_ms * WAIT_SHARE:g}"),))
    return turns[:QUICK] if quick else [*turns, waiting]


def _threads(seen: Seen) -> Sequence[int]:
    """All cores, and half of them."""
    counts = dict.fromkeys((seen.cores, max(1, seen.cores // 2)))
    return [count for count in counts if seen.threads is not None and count != seen.threads]


def _sizes(seen: Seen) -> Sequence[int]:
    # A limit above the largest batch changes nothing; one that was reached may be too low.
    more = [2 * seen.max_batch_size] if seen.largest_batch >= seen.max_batch_size else []
    return [*more, *_halves(seen.largest_batch, 1)]


def _halves(most: int, least: int) -> Sequence[int]:
    """The power of two below `most`, and a quarter of that."""
    below = 1 << max(0, (most - 1).bit_length() - 1)
    return [value for value in dict.fromkeys((below, below // 4)) if least <= value < most]
