"""Image classification: an image in, a score for each label out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from service.repository.architecture import Activation
from service.tasks.classify import Classify, Scores
from service.tasks.images import ImageInput, ImagePreprocessor, ImagesAsTexts, are_heavy, prepare
from service.tasks.protocol import ModelInput, Options


class ImageClassify:
    name: ClassVar[str] = "image-classify"

    def __init__(
        self, images: ImagePreprocessor, labels: Sequence[str], activation: Activation
    ) -> None:
        self._images = images
        # For the routes of classifiers whose inputs are texts: each stands for an image there.
        self.in_texts = Classify(ImagesAsTexts(images), labels, activation)

    def preprocess(self, one: ImageInput, options: Options) -> ModelInput:
        return prepare(self._images, one)

    def is_heavy(self, inputs: Sequence[ImageInput]) -> bool:
        return are_heavy(inputs)

    def result(self, value: object) -> Scores:
        """The logits, one for each label."""
        return self.in_texts.result(value)

    def best(
        self, logits: Scores, top: int, function: Activation | None = None
    ) -> list[dict[str, object]]:
        """The `top` labels, highest score first; of equal ones the earlier, as the pipeline of
        transformers sorts them. `function`: from logits to scores; None: the model's own."""
        scores = self.in_texts.scores(logits, function)
        order = np.argsort(-scores, kind="stable")[:top]
        labels = self.in_texts.labels
        return [{"label": labels[place], "score": scores[place]} for place in order]
