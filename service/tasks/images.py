"""The images of a request: what a caller may send as one, and what its text forms look like.

Decoding is in decoding.py, which brings Pillow.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Protocol

from service.errors import InputError
from service.tasks.protocol import DEFAULT_OPTIONS, ModelInput, Options
from service.tasks.text_inputs import MANY_IDS

LARGE_IMAGE = 1024  # bytes, encoded; a larger one may be of enough pixels to take over 1 ms

_DATA_URI = re.compile(r"\s*data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+(?:=[^;,]*)?)*),", re.IGNORECASE)
_URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
_NOT_FETCHED = (
    "is the URL of an image; it is not fetched: send the image itself, as data:image/png;base64,…"
)


ImageInput = bytes | str
"""A file, or a text that stands for one: a data: URI, or bare base64."""


class ImagePreprocessor(Protocol):
    """Checks and decodes one image. Safe to share between threads."""

    def prepare_image(self, data: bytes) -> ModelInput:
        """The payload: uint8 of shape (height, width, 3). Raises InputError for what is no image of
        a known format, or has too many pixels; Overloaded where too many are in memory already."""


def is_url(text: str) -> bool:
    """Nothing but an address on the web: what it leads to is meant, not the text."""
    return text[:1] in "hH \t\r\n" and _URL.fullmatch(text) is not None


def is_data_uri(text: str) -> bool:
    return _DATA_URI.match(text) is not None


def image_bytes(text: str) -> bytes:
    """The image that a text stands for: a data: URI, or bare base64. Raises InputError."""
    if is_url(text):
        raise InputError(_NOT_FETCHED)
    start = 0
    if (uri := _DATA_URI.match(text)) is not None:
        media, parameters, start = uri[1].lower(), uri[2].lower(), uri.end()
        if not media.startswith("image/"):
            raise InputError(f"is a data: URI of {media[:40]}, not of an image (data:image/…)")
        if not parameters.endswith(";base64"):
            raise InputError("is a data: URI without base64: send data:image/png;base64,…")
    try:
        # Line breaks are common in base64; everything else that is not of its alphabet is an error.
        packed = "".join(text[start:].split())
        data = binascii.a2b_base64(packed, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"is not an image in base64: {error}") from None
    if not data:
        raise InputError("is empty, not an image")
    return data


def prepare(images: ImagePreprocessor, one: ImageInput) -> ModelInput:
    return images.prepare_image(one if isinstance(one, bytes) else image_bytes(one))


def are_heavy(inputs: Sequence[ImageInput]) -> bool:
    return len(inputs) > 1 or any(len(one) > LARGE_IMAGE for one in inputs)


class ImagesAsTexts:
    """A preprocessor of texts for a model that takes images alone."""

    max_length: int | None = None
    long_text = LARGE_IMAGE
    many_ids = MANY_IDS

    def __init__(self, images: ImagePreprocessor) -> None:
        self._images = images

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> ModelInput:
        return prepare(self._images, text)

    def prepare_pair(
        self, first: str, second: str, options: Options = DEFAULT_OPTIONS
    ) -> ModelInput:
        raise InputError("is a pair; this model takes one image for each input")

    def prepare_ids(self, ids: Sequence[int], options: Options = DEFAULT_OPTIONS) -> ModelInput:
        raise InputError("token ids are not taken: this model takes images")
