"""The model's own image processor, as transformers builds it: from pixels to the model's tensors.

An image is processed by itself, so that nothing of it depends on the others of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from batcher import InvalidPayload
from batcher.failures import explain
from service.repository.json_files import ModelNotSupported
from service.repository.resize import Resize
from service.repository.vision import VisionSpec

Pixels = NDArray[np.uint8]  # (height, width, 3)
Tensors = Mapping[str, Tensor]  # what the model is called with, by name

# Height and width: one pixel, odd numbers, wide, high, smaller and larger than most models take.
_SIZES = ((1, 1), (31, 17), (40, 90), (301, 60), (640, 480))


class Processor:
    def __init__(self, spec: VisionSpec) -> None:
        """Raises ModelNotSupported for one that cannot be loaded, or that does something else with
        an image that a frontend has resized for it."""
        try:
            # By Pillow, whatever else is installed: another library rounds in another way.
            self._process = transformers.AutoImageProcessor.from_pretrained(
                spec.folder, backend="pil", local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises whatever a damaged file leads it to
            raise ModelNotSupported(
                f"{spec.folder}: its image processor cannot be loaded: {explain(error)}"
            ) from error
        self._resizes = bool(getattr(self._process, "do_resize", False))
        self._size = spec.image_size
        if spec.processor.resize is not None:
            self._check(spec.processor.resize, spec)

    def process(self, image: Pixels) -> Tensors | InvalidPayload:
        """A batch of one; or why this image cannot be processed."""
        try:
            # As a picture and not as numbers: of those it would have to guess what is the height.
            made = self._process(images=[Image.fromarray(image)], return_tensors="pt")
        except (ValueError, TypeError, ZeroDivisionError) as error:
            height, width = image.shape[:2]
            return InvalidPayload(
                f"the model's image processor does not take an image of {width} x {height} pixels:"
                f" {explain(error)}"
            )
        return {name: each for name, each in made.items() if isinstance(each, Tensor)}

    def samples(self) -> list[Pixels]:
        """Images that the model takes, of several sizes where it can; the same each time."""
        sizes = _SIZES if self._resizes else ((self._size, self._size),) * 3
        return [_noise(*size, number) for number, size in enumerate(sizes)]

    def _check(self, resize: Resize, spec: VisionSpec) -> None:
        for image in self.samples():
            height, width = image.shape[:2]
            smaller = Image.fromarray(image).resize(
                resize.target(width, height), Image.Resampling(resize.resample)
            )
            one, other = self.process(image), self.process(np.asarray(smaller))
            if isinstance(one, InvalidPayload):
                raise ModelNotSupported(f"{spec.folder}: {one}")
            if isinstance(other, InvalidPayload) or not _equal(one, other):
                raise ModelNotSupported(
                    f"{spec.folder}: its image processor does not resize an image of {width} x"
                    f" {height} pixels as its files say ({resize}); please report this"
                )


def alike(made: Sequence[tuple[int, Tensors]]) -> Iterator[tuple[list[int], Tensors]]:
    """Those of the same shapes as one batch each, with their places."""
    groups: dict[tuple[object, ...], list[tuple[int, Tensors]]] = {}
    for place, tensors in made:
        shapes = tuple((name, tuple(each.shape)) for name, each in tensors.items())
        groups.setdefault(shapes, []).append((place, tensors))
    for group in groups.values():
        names = group[0][1].keys()
        yield (
            [place for place, _ in group],
            {name: torch.cat([tensors[name] for _, tensors in group]) for name in names},
        )


def _noise(height: int, width: int, seed: int) -> Pixels:
    """A slope with noise on it, so that neither a resize nor a crop leaves it as it was."""
    slope = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    noise = np.random.default_rng(seed).integers(0, 56, (height, width, 3))
    return (slope + noise).astype(np.uint8)


def _equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
