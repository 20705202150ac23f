"""What requests say: sentences of real files where there are some, else of a small grammar.

Texts repeat as late as possible, so that equal texts are not in flight together: a server that
answers equal inputs once must not look faster than it is.
"""

import argparse
import itertools
import json
import math
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KINDS = ("short", "all", "mixed")
SHORT_WORDS = 12
MIXED_MEDIAN_WORDS = 16
MIXED_SIGMA = math.log(60 / MIXED_MEDIAN_WORDS) / 1.6449  # So that 5 % are over 60 words.
MIXED_MOST_WORDS = 240
SENTENCES_VARIABLE = "BATCHER_LOADTEST_SENTENCES"

_WHO = "A tired courier|The night librarian|My neighbour|One of the engineers|An old fisherman"
_WHO += "|The youngest pupil|Our gardener|A visiting judge|The violin teacher|Every good baker"
_DOES = "writes down|looks for|quietly repairs|cannot find|is proud of|has forgotten|sells"
_DOES += "|wants to paint|talks about|keeps"
_WHAT = "the broken clock|three letters from home|a map of the river|the blue bicycle|fresh bread"
_WHAT += "|the last train ticket|a box of nails|two silent dogs|the harbour lights|a song"
_WHEN = "before sunrise|in the rain|after the meeting|once a week|without a word|near the station"
_WHEN += "|on market day|every winter|as usual|for the children"


def read_sentences(folder: Path) -> list[str]:
    """Every different sentence of the folder's TSV files (score, sentence, sentence)."""
    lines = itertools.chain.from_iterable(
        path.read_text(encoding="utf-8").splitlines() for path in sorted(folder.glob("*.tsv"))
    )
    sentences = dict.fromkeys(part.strip() for line in lines for part in line.split("\t")[1:])
    found = [sentence for sentence in sentences if sentence]
    if not found:
        raise ValueError(f"{folder}: no sentences in *.tsv files there")
    return found


def built_in_sentences() -> list[str]:
    """Ten thousand different plain sentences of 6 to 14 words, for use with no data at hand."""
    parts = itertools.product(*(words.split("|") for words in (_WHO, _DOES, _WHAT, _WHEN)))
    return [" ".join(part) + "." for part in parts]


def texts(kind: str, sentences: Iterable[str], seed: int, count: int = 4096) -> list[str]:
    """`count` texts of a kind, in an order of the seed's choosing.

    `short`: up to 12 words; `all`: the sentences as they are; `mixed`: log-normal word counts,
    median 16, 5 % over 60, made by joining sentences.
    """
    rng = random.Random(seed)
    pool = list(sentences)
    if kind == "short":
        pool = [sentence for sentence in pool if len(sentence.split()) <= SHORT_WORDS]
    if kind not in KINDS or not pool:
        raise ValueError(f"no {kind!r} texts: the kinds are {', '.join(KINDS)}")
    rng.shuffle(pool)
    endless = itertools.cycle(pool)
    if kind != "mixed":
        return list(itertools.islice(endless, count))
    words = (word for sentence in endless for word in sentence.split())
    chosen: dict[str, None] = {}
    for _ in range(2 * count):  # One word, or two, may be a text already; a pool of one word ends.
        chosen[" ".join(itertools.islice(words, _mixed_words(rng)))] = None
        if len(chosen) == count:
            break
    return list(itertools.islice(itertools.cycle(chosen), count))


def _mixed_words(rng: random.Random) -> int:
    drawn = rng.lognormvariate(math.log(MIXED_MEDIAN_WORDS), MIXED_SIGMA)
    return min(MIXED_MOST_WORDS, max(1, round(drawn)))


def embed_body(text: str) -> bytes:
    """The body of one POST /embed."""
    return json.dumps({"inputs": text}, ensure_ascii=False).encode()


def add_arguments(parser: argparse.ArgumentParser, **others: Any) -> None:
    """`others`: keyword arguments of a parser that takes more than argparse's does."""
    parser.add_argument(
        "--sentences",
        type=Path,
        default=os.environ.get(SENTENCES_VARIABLE) or None,
        metavar="DIR",
        help=f"folder of TSV files (score, sentence, sentence); default ${SENTENCES_VARIABLE},"
        " else built-in sentences",
        **others,
    )


def load_sentences(folder: Path | None) -> list[str]:
    return built_in_sentences() if folder is None else read_sentences(folder)
