"""Payloads and results as bytes, and back. No pickle: text, bytes, numbers and JSON can travel.

Vectors of float32 of one length, as a batch has them, travel as one block.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from batcher.remote import layout
from batcher.remote.messages import FrameError
from batcher.scheduling.arrays import is_array

_VALUE = struct.Struct("<BI")  # kind and length
_TEXT, _BYTES, _IDS, _ARRAY, _JSON, _ROWS = range(1, 7)
_SHAPE = struct.Struct("<BB")  # length of the dtype's name, dimensions
_NUMERIC = "biufc"
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")
_INT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<f4")


def write_all(values: Sequence[Any], parts: list[Any]) -> None:
    """Raises FrameError for one that cannot travel."""
    if _are_rows(values):
        parts.append(_VALUE.pack(_ROWS, len(values[0])))
        parts += values  # as they lie in memory: join copies each once
    else:
        for value in values:
            write(value, parts)


def _are_rows(values: Sequence[Any]) -> bool:
    """Whether all are vectors of float32 of one length, each in one piece."""
    first = values[0]
    if not is_array(first) or first.ndim != 1:
        return False
    kind, shape = type(first), first.shape
    return all(
        type(value) is kind
        and value.dtype == _FLOAT32
        and value.shape == shape
        and value.flags.c_contiguous
        for value in values
    )


def write(value: Any, parts: list[Any]) -> None:
    """Raises FrameError for what cannot travel."""
    kind = type(value)
    data: Any
    if kind is str:
        code, data = _TEXT, value.encode("utf-8", "surrogatepass")
    elif kind is bytes:
        code, data = _BYTES, value
    elif is_array(value):
        if value.dtype == _INT32 and value.ndim == 1:
            code, data = _IDS, value.tobytes()
        else:
            code, data = _ARRAY, _array(value)
    else:
        try:
            code, data = _JSON, json.dumps(value).encode()
        except Exception as error:  # an object of the user's own may raise anything
            name = f"{kind.__module__}.{kind.__qualname__}"
            raise FrameError(f"a value of type {name} cannot travel: {error}") from None
    if len(data) > layout.MAX_BODY:
        raise FrameError(f"a value of {len(data)} bytes; a frame holds {layout.MAX_BODY}")
    parts.append(_VALUE.pack(code, len(data)))
    parts.append(data)


def _array(value: np.ndarray[Any, Any]) -> bytes:
    if value.dtype.kind not in _NUMERIC:
        raise FrameError(f"an array of {value.dtype} cannot travel: only numbers can")
    name = value.dtype.str.encode()
    shape = struct.pack(f"<{value.ndim}Q", *value.shape)
    return b"".join((_SHAPE.pack(len(name), value.ndim), name, shape, value.tobytes()))


def cut(body: bytes, at: int, length: int) -> bytes:
    """A piece of its own: an array in it is aligned, and holds nothing else in memory."""
    piece = body[at : at + length]
    if len(piece) != length:
        raise FrameError(f"a frame that ends {length - len(piece)} bytes too early")
    return piece


def read_all(body: bytes, at: int, count: int) -> tuple[Sequence[Any], int]:
    if count and body[at : at + 1] == bytes([_ROWS]):
        _, width = _VALUE.unpack_from(body, at)
        at += _VALUE.size
        size = 4 * width * count
        rows = np.frombuffer(cut(body, at, size), _FLOAT32).reshape(count, width)
        return list(rows), at + size
    values = []
    for _ in range(count):
        value, at = read(body, at)
        values.append(value)
    return values, at


def read(body: bytes, at: int) -> tuple[Any, int]:
    kind, length = _VALUE.unpack_from(body, at)
    at += _VALUE.size
    data = cut(body, at, length)
    value: Any
    if kind == _TEXT:
        value = str(data, "utf-8", "surrogatepass")
    elif kind == _IDS:
        value = np.frombuffer(data, _INT32)
    elif kind == _BYTES:
        value = data
    elif kind == _ARRAY:
        value = _read_array(data)
    elif kind == _JSON:
        value = json.loads(data)
    else:
        raise FrameError(f"a value of kind {kind}, which is none")
    return value, at + length


def _read_array(data: bytes) -> np.ndarray[Any, Any]:
    length, dimensions = _SHAPE.unpack_from(data)
    at = _SHAPE.size
    name = str(cut(data, at, length), "ascii")
    at += length
    if not _DTYPE.fullmatch(name):
        raise FrameError(f"an array of {name!r}")
    shape = struct.unpack(f"<{dimensions}Q", cut(data, at, 8 * dimensions))
    return np.frombuffer(data[at + 8 * dimensions :], np.dtype(name)).reshape(shape)
