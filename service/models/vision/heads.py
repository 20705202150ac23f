"""What is asked of a model that sees: a classifier's logits, or vectors of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from batcher.failures import explain
from service.models.heads import scaled
from service.models.measures import Directions, Logits, Measure
from service.models.reference.texts import SENTENCES
from service.models.vision.processing import Tensors
from service.repository.json_files import ModelNotSupported
from service.repository.vision import VisionSpec
from service.tasks.text import TextTokenizer

Ids = NDArray[np.int32]  # the tokens of one text, special ones included

_SENTENCES = 4  # of the built-in ones, to compare answers by


class Head(Protocol):
    auto_class: str  # of transformers, which loads the model
    measure: Measure

    def of_images(self, model: Any, inputs: Tensors) -> Tensor:
        """(n, width)"""

    def of_texts(self, model: Any, texts: Sequence[Ids], device: torch.device) -> Tensor:
        """(n, width). Raises ValueError where the model takes images alone."""

    def samples(self) -> list[Ids]:
        """Texts to compare answers by; none where the model takes images alone."""

    def info(self, model: Any) -> Mapping[str, object]:
        """For /info, the log and the frontends."""


class Classifies:
    auto_class = "AutoModelForImageClassification"
    measure: Measure = Logits()

    def __init__(self, spec: VisionSpec) -> None:
        self._spec = spec

    def of_images(self, model: Any, inputs: Tensors) -> Tensor:
        logits: Tensor = model(**inputs).logits
        return logits

    def of_texts(self, model: Any, texts: Sequence[Ids], device: torch.device) -> Tensor:
        raise ValueError("a text, where the model takes images")

    def samples(self) -> list[Ids]:
        return []

    def info(self, model: Any) -> Mapping[str, object]:
        return {"labels": list(self._spec.labels), "activation": self._spec.activation}


class EmbedsBoth:
    """The features of images and of texts, projected into one space: each of length 1, with the
    length that it had behind it, as the vectors of texts alone are answered."""

    auto_class = "AutoModel"
    measure: Measure = Directions()

    def __init__(self, spec: VisionSpec) -> None:
        """Raises ModelNotSupported."""
        assert spec.text is not None, "a model of images and texts has a tokenizer"
        self._spec, self._text = spec, spec.text
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                spec.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises whatever a damaged file leads it to
            raise ModelNotSupported(
                f"{spec.folder}: its tokenizer cannot be loaded: {explain(error)}"
            ) from error

    def of_images(self, model: Any, inputs: Tensors) -> Tensor:
        return _scaled(_features(model.get_image_features(**inputs)))

    def of_texts(self, model: Any, texts: Sequence[Ids], device: torch.device) -> Tensor:
        padded = self._tokenizer.pad(
            {"input_ids": [ids.tolist() for ids in texts]},
            padding="max_length" if self._spec.padded_to else True,
            max_length=self._text.max_length if self._spec.padded_to else None,
            return_tensors="pt",
        )
        names = self._tokenizer.model_input_names
        given = {name: each.to(device) for name, each in padded.items() if name in names}
        return _scaled(_features(model.get_text_features(**given)))

    def samples(self) -> list[Ids]:
        tokenizer = TextTokenizer.load(self._text)
        texts = ("a", *SENTENCES[:_SENTENCES], "word " * self._text.max_length)
        return [tokenizer.encode(text, truncate=True) for text in texts]

    def info(self, model: Any) -> Mapping[str, object]:
        bias = getattr(model, "logit_bias", None)
        return {
            "dimension": self._text.dimension,
            "normalize": self._spec.normalize,
            # What the zero-shot classification of images makes logits of cosines with.
            "logit_scale": _number(self._scale(model)),
            "logit_bias": 0.0 if bias is None else _number(bias),
            "zero_shot": "sigmoid" if "siglip" in model.config.model_type else "softmax",
        }

    @staticmethod
    def _scale(model: Any) -> Tensor:
        scale: Tensor | None = getattr(model, "logit_scale", None)
        # ALIGN divides by a temperature instead.
        return scale.float().exp() if scale is not None else 1 / model.temperature.float()


HEADS: Mapping[str, Callable[[VisionSpec], Head]] = {
    "image-classify": Classifies,
    "image-embed": EmbedsBoth,
}


def _features(output: Any) -> Tensor:
    """Of the versions of transformers that answer with a record, and those that do not."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _scaled(vectors: Tensor) -> Tensor:
    return scaled(vectors.float(), vectors.shape[1])


def _number(tensor: Tensor) -> float:
    return float(tensor.float().reshape(()))
