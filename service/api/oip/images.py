"""The tensors of models that see. An image is a file in BYTES; in JSON it is a text that stands for
one: base64, or a data: URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from service.api.oip.datatypes import BYTES
from service.api.oip.signature import Asked, InferParameters
from service.api.oip.tensors import ANY, Output, Tensor, TensorSpec
from service.api.oip.texts import (
    TEXT,
    check_dimensions,
    label_outputs,
    label_outputs_of,
    needed,
    texts_of,
)
from service.catalog import ServedModel
from service.errors import InputError
from service.tasks.embed import Vector
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed, TheText
from service.tasks.text_inputs import check_count

IMAGE = TensorSpec("image", BYTES, (ANY, 1))


class ImageClassifyTensors:
    inputs = (IMAGE,)

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(ImageClassify)
        self.outputs = label_outputs(self._task.in_texts.labels)

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        images = needed(given, IMAGE)
        check_count(images.rows, IMAGE.name, limit)
        labelled = self._task.in_texts
        return Asked(
            self._task,
            list(images.values),
            lambda place: f"{IMAGE.name}[{place}]",
            lambda logits: label_outputs_of(labelled, logits, is_raw=parameters.raw_scores),
        )


class ImageEmbedTensors:
    """Images or texts in, vectors of one space out."""

    inputs = (
        TensorSpec("image", BYTES, (ANY, 1), is_optional=True),
        TensorSpec("text", BYTES, (ANY, 1), is_optional=True),
    )

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(ImageEmbed)
        self._dimension = served.dimension
        self.outputs = (TensorSpec("embedding", "FP32", (ANY, served.dimension or ANY)),)

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        if len(given) != 1:
            raise InputError("send image or text, one of the two", field="inputs")
        if parameters.normalize is False:
            rule = "false is not offered with images: vectors have length 1"
            raise InputError(rule, field="parameters.normalize")
        check_dimensions(self._task.in_texts, parameters, self._dimension)
        [tensor] = given.values()
        check_count(tensor.rows, tensor.name, limit)
        rows: Sequence[object] = list(tensor.values)
        if tensor.name == TEXT.name:
            rows = [TheText(text) for text in texts_of(tensor, limit)]
        return Asked(
            self._task,
            rows,
            lambda place: f"{tensor.name}[{place}]",
            lambda vectors: _stacked(self._task, vectors, parameters),
        )


def _stacked(
    task: ImageEmbed, vectors: Sequence[Vector], parameters: InferParameters
) -> Mapping[str, Output]:
    kept = task.in_texts.shorten(list(vectors), parameters.dimensions)
    return {"embedding": Output.of(np.stack(kept))}
