"""Images as transformers' load_image has them, and the bounds before that."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from batcher import Overloaded
from service.errors import InputError
from service.repository.resize import ProcessorSpec, Resize
from service.tasks.decoding import ImageDecoder
from tests.service.tiny_images import encoded, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of odd files


def decoder(max_pixels: int = 100_000, **options: Any) -> ImageDecoder:
    return ImageDecoder(max_pixels, 7, ProcessorSpec(), **options)


def reference(data: bytes) -> Any:
    """What transformers' load_image does with an opened file."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(20, 9), "JPEG", exif=exif)


def animation() -> bytes:
    frames = [picture(12, 8, seed=seed) for seed in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def deep() -> bytes:
    """16 bits a pixel."""
    return encoded(Image.fromarray(np.arange(0, 60_000, 250, np.uint16).reshape(15, 16)))


GOOD = {
    "png": encoded(picture(20, 9)),
    "jpeg": encoded(picture(20, 9), "JPEG"),
    "webp": encoded(picture(20, 9), "WEBP"),
    "bmp": encoded(picture(20, 9), "BMP"),
    "tiff": encoded(picture(20, 9), "TIFF"),
    "ppm": encoded(picture(20, 9), "PPM"),
    "one pixel": encoded(picture(1, 1)),
    "cmyk": encoded(picture(20, 9, "CMYK"), "JPEG"),
    "grey": encoded(picture(20, 9, "L")),
    "black and white": encoded(picture(20, 9, "1")),
    "palette": encoded(picture(20, 9, "P")),
    "transparent palette": encoded(picture(20, 9, "P"), transparency=bytes(range(40))),
    "transparent": encoded(picture(20, 9, "RGBA")),
    "grey and transparent": encoded(picture(20, 9, "LA")),
    "16 bit": deep(),
    "animated": animation(),
    "high": encoded(picture(3, 900)),
    **{f"turned {n}": turned(n) for n in range(1, 9)},
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_pixels_are_those_of_the_reference(data: bytes) -> None:
    made = decoder().prepare_image(data)
    assert made.cost == 7
    assert made.payload.dtype == np.uint8
    np.testing.assert_array_equal(made.payload, reference(data))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header alone says how large it is: there is nothing to decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BAD = {
    "nothing": (b"", "not an image"),
    "text": (b"hello", "not an image"),
    "json": (b'{"a": 1}', "not an image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "pdf": (b"%PDF-1.4\n", "not an image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "truncated": (GOOD["jpeg"][:-200], "cannot be decoded"),
    "truncated png": (GOOD["png"][: len(GOOD["png"]) // 2], "cannot be decoded"),
    "header alone": (bomb(20, 20), "cannot be decoded"),
    "bomb": (bomb(50_000, 50_000), "pixels; at most 100000 are allowed"),
    "too large": (bomb(400, 251), "400 x 251 pixels; at most 100000"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD)
def test_what_is_no_image_is_the_callers_fault(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decoder().prepare_image(data)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "animated", "tiff", "turned 6"])
@given(data=st.data())
def test_a_damaged_file_is_an_image_or_a_refusal(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        made = decoder().prepare_image(bytes(damaged[:cut] if cut % 2 else damaged))
    except InputError:
        return
    assert made.payload.ndim == 3
    assert made.payload.shape[2] == 3


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        decoder().prepare_image(data)


def test_a_large_image_is_resized_as_its_processor_would() -> None:
    made = ImageDecoder(100_000, 1, ProcessorSpec(Resize(32, Image.Resampling.BICUBIC), 32))
    image = picture(90, 64)
    small = np.asarray(image.resize((45, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(made.prepare_image(encoded(image)).payload, small)
    # One that would grow travels as it is.
    assert made.prepare_image(encoded(picture(20, 9))).payload.shape == (9, 20, 3)


def test_a_turned_image_is_resized_as_it_is_turned() -> None:
    made = ImageDecoder(100_000, 1, ProcessorSpec(Resize(8, Image.Resampling.BILINEAR), 8))
    upright = Image.fromarray(reference(turned(6)))
    small = np.asarray(upright.resize((8, 17), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(made.prepare_image(turned(6)).payload, small)


@pytest.mark.parametrize("resize", [Resize(224, 2), None])
def test_an_image_that_a_resize_would_make_huge_is_refused(resize: Resize | None) -> None:
    made = ImageDecoder(100_000, 1, ProcessorSpec(resize, 224))
    with pytest.raises(InputError, match="too long and thin"):
        made.prepare_image(encoded(picture(1, 3000)))


def test_only_so_many_decoded_images_are_in_memory_at_a_time() -> None:
    made = decoder(max_pixels=500, most_bytes=7000)
    image = encoded(picture(20, 20))  # 5,600 bytes while it is decoded, 1,200 after that
    held = [made.prepare_image(image), made.prepare_image(image)]
    with pytest.raises(Overloaded):
        made.prepare_image(image)
    del held
    made.prepare_image(image)


def test_what_cannot_be_decoded_holds_no_memory() -> None:
    made = decoder(max_pixels=600, most_bytes=0)  # room for one
    for _ in range(3):
        with pytest.raises(InputError):
            made.prepare_image(bomb(20, 20))
    made.prepare_image(encoded(picture(20, 20)))


@pytest.mark.parametrize("kind", [b"P1", b"P2", b"P3"])
def test_pixels_that_are_spelled_out_are_not_read(kind: bytes) -> None:
    with pytest.raises(InputError, match="pixels as text"):
        decoder().prepare_image(kind + b"\n1 1\n255\n1 2 3\n")
