"""Images of every kind and size that a caller may send, the same each time."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

_SIZES = ((32, 32), (1, 1), (50, 20), (31, 97), (200, 160), (64, 48), (33, 31), (7, 90))
COUNT = 64


def _noise(width: int, height: int, mode: str, seed: int) -> Image.Image:
    """On a slope."""
    draw = np.random.default_rng(seed)
    slope = np.linspace(0, 190, height * width * 3).reshape(height, width, 3)
    pixels = (slope + draw.integers(0, 60, (height, width, 3))).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _turned(width: int, height: int, seed: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1 + seed % 8
    return _encoded(_noise(width, height, "RGB", seed), "JPEG", exif=exif)


def _deep(width: int, height: int, seed: int) -> bytes:
    """16 bits a pixel."""
    numbers = np.random.default_rng(seed).integers(0, 60_000, (height, width)).astype(np.uint16)
    return _encoded(Image.fromarray(numbers))


def _animated(width: int, height: int, seed: int) -> bytes:
    first, *others = (_noise(width, height, "RGB", seed + n) for n in range(3))
    return _encoded(first, "GIF", save_all=True, append_images=others)


def _of(mode: str, kind: str = "PNG") -> Callable[[int, int, int], bytes]:
    return lambda width, height, seed: _encoded(_noise(width, height, mode, seed), kind)


_KINDS: Sequence[Callable[[int, int, int], bytes]] = (
    _of("RGB"),
    _of("RGB", "JPEG"),
    _of("L"),
    _turned,
    _of("RGBA"),
    _of("CMYK", "JPEG"),
    _of("P"),
    _deep,
    _of("1"),
    _animated,
    _of("RGB", "WEBP"),
    _of("LA"),
    _of("RGB", "BMP"),
)


@functools.cache
def files(count: int = COUNT, size: tuple[int, int] | None = None) -> list[bytes]:
    """Of mixed kinds; of mixed sizes, or all of one."""
    return [
        _KINDS[seed % len(_KINDS)](*(size or _SIZES[seed % len(_SIZES)]), seed)
        for seed in range(count)
    ]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{as_base64(data)}"
