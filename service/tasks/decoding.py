"""From the bytes of an image file to pixels, as transformers' load_image has them, under bounds
that are checked before anything is decoded. Runs in a thread of the frontend. Brings Pillow."""

from __future__ import annotations

import io
import threading
import warnings
import weakref
from collections import deque

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from batcher import Overloaded
from batcher.failures import in_one_line
from service.errors import InputError
from service.repository.resize import ProcessorSpec
from service.tasks.protocol import ModelInput

# Not all that Pillow can read: EPS would start another program, FITS and others have no bounds.
_WANTED = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
Image.init()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # that this Pillow was built with
# Bytes of a pixel while it is decoded: as the file has it, turned and in RGB, and the copies on the
# way out. Measured: JPEG 10, PNG 11, WebP 14.
_DECODING = 14
_SPELLED_OUT = (b"P1", b"P2", b"P3")  # of PPM: decoded in Python, a second for each megabyte
MOST_BYTES = 1 << 30  # of decoded images in one process, waiting or running

# Our own bound is the one that holds: Pillow's would write a line to the log first.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageDecoder:
    def __init__(
        self,
        max_pixels: int,
        cost: int,  # of an image, to the batch that it is in
        processor: ProcessorSpec,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._max_pixels = max_pixels
        self._cost = cost
        self._processor = processor
        self._memory = _Memory(max(most_bytes, max_pixels * _DECODING))

    def prepare_image(self, data: bytes) -> ModelInput:
        if not data:
            raise InputError("is empty, not an image", kind="empty")
        if data[:2] in _SPELLED_OUT:
            raise InputError(
                "is an image with its pixels as text (PNM P1 to P3), which is not supported"
            )
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise self._too_large("more than Pillow opens at all") from None
        except UnidentifiedImageError:
            raise InputError(f"is not an image that can be read: {', '.join(FORMATS)}") from None
        except MemoryError:
            raise
        except Exception as error:  # a decoder raises whatever a damaged file leads it to
            raise _damaged(error) from None
        with image:
            width, height = image.size
            if width * height > self._max_pixels:  # known from the header: nothing is decoded yet
                raise self._too_large(f"{width} x {height}")
            target = self._check_target(width, height)
            decoded = width * height * _DECODING
            self._memory.take(decoded)
            kept = 0
            try:
                pixels = _pixels(image)
                resize = self._processor.resize
                if resize is not None and target < width * height:
                    pixels = pixels.resize(
                        resize.target(*pixels.size), Image.Resampling(resize.resample)
                    )
                array = np.asarray(pixels)
                kept = array.nbytes
                weakref.finalize(array, self._memory.give_back, kept)
            except MemoryError:
                raise
            except Exception as error:
                raise _damaged(error) from None
            finally:
                self._memory.give_back(decoded - kept)
        return ModelInput(array, self._cost)

    def _check_target(self, width: int, height: int) -> int:
        """The pixels that the image has once it is resized. Raises InputError where one so long and
        thin would take more than are allowed."""
        resize, edge = self._processor.resize, self._processor.shortest_edge
        if resize is not None:
            target = resize.target(width, height)
        elif edge is not None:
            target = edge, edge * max(width, height) // min(width, height)
        else:
            target = width, height
        pixels = target[0] * target[1]
        if pixels > max(self._max_pixels, width * height):
            raise InputError(
                f"an image of {width} x {height} pixels is too long and thin: the model's image"
                f" processor would bring it to {target[0]} x {target[1]}"
            )
        return pixels

    def _too_large(self, size: str) -> InputError:
        return InputError(f"the image has {size} pixels; at most {self._max_pixels} are allowed")


def _pixels(image: Image.Image) -> Image.Image:
    """Decoded, turned as its EXIF data says, in RGB. Of an animation, its first frame."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image if image.mode == "RGB" else image.convert("RGB")


def _damaged(error: Exception) -> InputError:
    said = in_one_line(str(error))[:200] or type(error).__name__
    return InputError(f"the image cannot be decoded: {said}")


class _Memory:
    """The bytes of decoded images that are alive in this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        # Returned without the lock: an array may be freed anywhere, even by a thread that holds it.
        self._returned: deque[int] = deque()
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises Overloaded."""
        with self._lock:
            while self._returned:
                self._held -= self._returned.popleft()
            if self._held + size > self._most:
                raise Overloaded("too many large images wait to be run", retry_after=1.0)
            self._held += size

    def give_back(self, size: int) -> None:
        self._returned.append(size)
