"""Images and texts in one space: an image or a text in, a vector out; and how well texts fit an
image, by their vectors (zero-shot classification)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from service.tasks.embed import Embed, Normalization, Vector
from service.tasks.images import (
    LARGE_IMAGE,
    ImagePreprocessor,
    image_bytes,
    is_data_uri,
    is_url,
)
from service.tasks.protocol import ModelInput, Options
from service.tasks.text_inputs import TextPreprocessor


class ImagesAndTexts:
    """A TextPreprocessor: a text that is a data: URI is the image in it. A URL alone is refused: it
    means what it leads to, and as a text it would get a vector that looks right."""

    long_text = LARGE_IMAGE

    def __init__(self, images: ImagePreprocessor, texts: TextPreprocessor) -> None:
        self._images = images
        self._texts = texts
        self.max_length = texts.max_length

    def prepare(self, text: str, *, truncate: bool) -> ModelInput:
        if is_data_uri(text) or is_url(text):
            return self._images.prepare_image(image_bytes(text))
        return self._texts.prepare(text, truncate=truncate)

    def prepare_ids(self, ids: Sequence[int], *, truncate: bool) -> ModelInput:
        return self._texts.prepare_ids(ids, truncate=truncate)


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

    def preprocess(self, one: bytes | str, options: Options) -> ModelInput:
        """An image's bytes, or a text."""
        if isinstance(one, bytes):
            return self._images.prepare_image(one)
        return self._texts.prepare(one, truncate=options.truncate)

    def is_heavy(self, inputs: Sequence[bytes | str]) -> bool:
        return any(len(one) > LARGE_IMAGE for one in inputs)

    def result(self, value: object) -> Vector:
        return self.in_texts.result(value)


def fit(
    image: Vector,
    texts: Sequence[Vector],
    scale: float,
    bias: float,
    function: Literal["softmax", "sigmoid"],
) -> Vector:
    """How well each text fits the image, from 0 to 1: the model's logit of a pair is the cosine,
    times `scale`, plus `bias`. As the pipeline of transformers has it."""
    rows = np.stack(texts).astype(np.float64)
    cosines = rows @ image / (np.linalg.norm(rows, axis=1) * np.linalg.norm(image))
    logits = cosines * scale + bias
    if function == "sigmoid":
        scores = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    else:
        powers = np.exp(logits - logits.max())
        scores = powers / powers.sum()
    return np.asarray(scores, dtype=np.float32)
