"""Images and texts in one space: an image or a text in, a vector out; and how well texts fit an
image, by their vectors (zero-shot classification)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from service.tasks.embed import Embed, Normalization, Vector
from service.tasks.images import (
    LARGE_IMAGE,
    ImageInput,
    ImagePreprocessor,
    are_heavy,
    image_bytes,
    is_data_uri,
    is_url,
    prepare,
)
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.text_inputs import TextPreprocessor


class ImagesAndTexts:
    """A TextPreprocessor: a text that is a data: URI is the image in it. A URL alone is refused: it
    means what it leads to, and as a text it would get a vector that looks right."""

    long_text = LARGE_IMAGE

    def __init__(self, images: ImagePreprocessor, texts: TextPreprocessor) -> None:
        self._images = images
        self._texts = texts
        self.max_length = texts.max_length
        self.many_ids = texts.many_ids

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        if is_data_uri(text) or is_url(text):
            return self._images.prepare_image(image_bytes(text))
        return self._texts.prepare(text, options)

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        return self._texts.prepare_ids(ids, options)


@dataclass(frozen=True, slots=True)
class TheText:
    """A text that is meant as such, whatever it looks like."""

    text: str


ImageOrText = ImageInput | TheText


class ImageEmbed:
    """For calls that know which of their inputs are images."""

    name: ClassVar[str] = "image-embed"

    def __init__(
        self, images: ImagePreprocessor, texts: TextPreprocessor, normalization: Normalization
    ) -> None:
        self._images = images
        self._texts = texts
        # For the routes of embedders: a text may stand for an image there.
        self.in_texts = Embed(ImagesAndTexts(images, texts), normalization)
        self.similarity: Similarity | None = None  # until a replica has reported it

    def preprocess(self, one: ImageOrText, options: Options) -> ModelInput:
        if isinstance(one, TheText):
            return self._texts.prepare(one.text, options)
        return prepare(self._images, one)

    def is_heavy(self, inputs: Sequence[ImageOrText]) -> bool:
        return are_heavy([one.text if isinstance(one, TheText) else one for one in inputs])

    def result(self, value: object) -> Vector:
        return self.in_texts.result(value)


@dataclass(frozen=True, slots=True)
class Similarity:
    """How the model turns the cosine of an image and a text into the logit that they belong
    together, and that into a score. As the pipeline of transformers has it."""

    scale: float
    bias: float
    function: Literal["softmax", "sigmoid"]

    @classmethod
    def of(cls, details: Mapping[str, object]) -> Similarity | None:
        """From what a replica has reported; None: it is not up yet."""
        match details:
            case {"logit_scale": float(scale), "logit_bias": float(bias), "zero_shot": str(name)}:
                return cls(scale, bias, "sigmoid" if name == "sigmoid" else "softmax")
        return None

    def scores(self, image: Vector, texts: Sequence[Vector]) -> Vector:
        """Of each text, from 0 to 1."""
        rows = np.stack(texts).astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(image)
        logits = rows @ image / lengths * self.scale + self.bias
        if self.function == "sigmoid":
            scores = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
        else:
            powers = np.exp(logits - logits.max())
            scores = powers / powers.sum()
        return np.asarray(scores, dtype=np.float32)

    def ranked(
        self, image: Vector, texts: Sequence[Vector], labels: Sequence[str]
    ) -> list[dict[str, object]]:
        """The labels, whose texts these are: the highest score first, of equal ones the earlier."""
        scores = self.scores(image, texts)
        order = np.argsort(-scores, kind="stable")
        return [{"score": scores[place], "label": labels[place]} for place in order]
