"""How one text asks each task, and what its right answer is: computed for the simulated runner,
asked beforehand else."""

import base64
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.drivers.workloads import built_in_sentences, texts
from service.models.simulated import answers
from service.models.vision.simulated import text_of
from service.tasks.plain_text import SIMULATED_LABELS, SIMULATED_MAX_LENGTH

Vector = NDArray[np.float64]
QUERY = "what is asked"
EDGE = 8  # pixels of an image that spells a text


@dataclass(frozen=True, slots=True)
class Ask:
    path: str
    body: Callable[[str], Mapping[str, Any]]
    numbers: Callable[[Any], Any]  # of a 200's document; raises where it is another
    expected: Callable[[str], Vector]  # of the simulated accelerator
    takes_long: bool = True  # a text of more words takes it longer

    def vector(self, document: object) -> Vector | None:
        """None where there is none of finite numbers."""
        try:
            vector = np.asarray(self.numbers(document), dtype=np.float64)
        except (TypeError, ValueError, IndexError, KeyError):
            return None
        return vector if vector.ndim == 1 and bool(np.isfinite(vector).all()) else None


def _simulated(text: str) -> Vector:
    words = text.split()
    if len(words) > SIMULATED_MAX_LENGTH:
        text = " ".join(words[:SIMULATED_MAX_LENGTH])
    return np.asarray(answers([text])[0], dtype=np.float64)


def _scores(logits: Vector, task: str) -> Vector:
    raised = np.exp(logits[: len(SIMULATED_LABELS[task])])
    scores: Vector = raised / raised.sum()
    return scores


def _by_label(ranked: Any) -> list[float]:
    return [each["score"] for each in sorted(ranked, key=lambda each: str(each["label"]))]


def _by_index(row: Any) -> list[float]:
    return [each["value"] for each in sorted(row, key=lambda each: int(each["index"]))]


def _pixels(text: str) -> NDArray[np.uint8]:
    """Its letters are the first numbers of them: so a drill is asked for."""
    pixels = np.zeros((EDGE, EDGE, 3), np.uint8)
    letters = text.encode()
    pixels.flat[: len(letters)] = list(letters)
    return pixels


def _png(text: str) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(_pixels(text)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _seen(text: str) -> Vector:
    return _simulated(text_of(_pixels(text)))


EMBED = Ask("/embed", lambda text: {"inputs": text}, lambda told: told[0], _simulated)
ASKS: Mapping[str, Ask] = {
    "embed": EMBED,
    "sparse": Ask(
        "/embed_sparse",
        lambda text: {"inputs": text},
        lambda told: _by_index(told[0]),
        lambda text: np.abs(_simulated(text)),
    ),
    "classify": Ask(
        "/predict",
        lambda text: {"inputs": text},
        _by_label,
        lambda text: _scores(_simulated(text), "classify"),
    ),
    "score": Ask(
        "/rerank",
        lambda text: {"query": QUERY, "texts": [text], "raw_scores": True},
        lambda told: [told[0]["score"]],
        lambda text: _simulated(f"{text}\x1f{QUERY}")[:1],
    ),
    "image-classify": Ask(
        "/",
        lambda text: {"inputs": _png(text), "parameters": {}},
        _by_label,
        lambda text: _scores(_seen(text), "image-classify"),
        takes_long=False,
    ),
    "image-embed": Ask(
        "/v1/embeddings",
        lambda text: {"input": f"data:image/png;base64,{_png(text)}", "model": "simulated"},
        lambda told: told["data"][0]["embedding"],
        _seen,
        takes_long=False,
    ),
}


# Texts of a real model: each is asked once, alone, before anything is injected. So many that no two
# alike are in flight, not even where most are refused: equal ones would share a row.
POOL = 512


class Reference(Protocol):
    tolerance: float

    def answer(self, text: str) -> Vector:
        """The vector that a 200 must hold."""

    def texts(self, about: str) -> Iterator[str]:
        """For ever, texts whose answer is known."""


class Computed:
    """No two texts are equal: an answer to one is nobody else's."""

    tolerance = 1e-6

    def __init__(self, ask: Ask = EMBED) -> None:
        self._ask = ask
        self._numbers = itertools.count(1)

    def answer(self, text: str) -> Vector:
        return self._ask.expected(text)

    def texts(self, about: str) -> Iterator[str]:
        for number in self._numbers:
            yield f"{about} number {number} of this run"


class Observed:
    """Of a real model, by asking for each text alone."""

    tolerance = 1e-3

    def __init__(self, ask: Callable[[str], Vector]) -> None:
        pool = texts("short", built_in_sentences(), seed=1, count=POOL)
        self._answers = {text: ask(text) for text in pool}
        self._endless = itertools.cycle(pool)

    def answer(self, text: str) -> Vector:
        return self._answers[text]

    def texts(self, about: str) -> Iterator[str]:
        return self._endless
