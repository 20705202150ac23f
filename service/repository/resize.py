"""How an image processor brings an image to the size that its model takes, by its own files.

Known for the processors of transformers that resize in the plain way, with Pillow, before all else.
A worker compares it with the processor itself, to the last bit, before it is used: see
service/models/vision/processing.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.repository.json_files import ModelNotSupported, read_object

# Whether a size that is one number means a square; else it is the shorter edge.
_PLAIN = {
    "ViT": True,
    "DeiT": True,
    "Siglip": False,
    "CLIP": False,
    "Bit": False,
    "ConvNext": False,
}
_WARPED_FROM = 384  # pixels of ConvNext's edge; below, it resizes to more than it crops
_SUFFIXES = ("ImageProcessor", "ImageProcessorFast", "FeatureExtractor")


@dataclass(frozen=True, slots=True)
class Resize:
    """`size`: height and width, or the shorter edge, which keeps the proportions."""

    size: tuple[int, int] | int
    resample: int  # Pillow's number of the filter

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after it. The arithmetic is that of transformers."""
        if isinstance(self.size, tuple):
            return self.size[1], self.size[0]
        short, long = min(width, height), max(width, height)
        longer = int(self.size * long / short)
        return (self.size, longer) if width <= height else (longer, self.size)


@dataclass(frozen=True, slots=True)
class ProcessorSpec:
    """What is known of an image processor without running it."""

    resize: Resize | None = None  # None: not known well enough to be done for it
    shortest_edge: int | None = None  # that it resizes to, whatever else it does


def read_processor(folder: Path) -> ProcessorSpec:
    """Raises ModelNotSupported for a folder without one, and for one with code of its own."""
    file, config = _config(folder)
    if "auto_map" in config:
        raise ModelNotSupported(
            f"{file}: its auto_map names code of the model's own, which is not run"
        )
    if config.get("do_resize") is False:
        return ProcessorSpec()
    size = config.get("size")
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
    edge = shortest if isinstance(shortest, int) else None
    return ProcessorSpec(_plain_resize(config), edge)


def _config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Of the image processor: in a file of its own, or as part of a processor of several kinds."""
    whole = folder / "processor_config.json"
    part = read_object(whole, optional=True).get("image_processor")
    if isinstance(part, dict):
        return whole, part
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise ModelNotSupported(f"{folder}: no preprocessor_config.json (the image processor's)")
    return file, read_object(file)


def _plain_resize(config: Mapping[str, Any]) -> Resize | None:
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    kind = next((str(named)[: -len(s)] for s in _SUFFIXES if str(named).endswith(s)), "")
    resample = config.get("resample")
    if config.get("do_resize") is not True or type(resample) is not int or kind not in _PLAIN:
        return None
    size = config.get("size")
    if type(size) is int:
        size = dict.fromkeys(("height", "width") if _PLAIN[kind] else ("shortest_edge",), size)
    match size:
        case {"height": int(height), "width": int(width), **rest} if kind != "ConvNext":
            plain: tuple[int, int] | int = (height, width)
        case {"shortest_edge": int(edge), **rest} if kind != "ConvNext":
            plain = edge
        case {"shortest_edge": int(edge), **rest} if edge >= _WARPED_FROM:
            plain = (edge, edge)
        case {"shortest_edge": int(edge), **rest}:
            share = config.get("crop_pct")
            if not isinstance(share, float) or not 0 < share <= 1:
                return None
            plain = int(edge / share)
        case _:
            return None
    sizes = plain if isinstance(plain, tuple) else (plain,)
    return None if any(rest.values()) or min(sizes) < 1 else Resize(plain, resample)
