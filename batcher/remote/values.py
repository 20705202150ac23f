"""Plain data (see batcher/plain_data.py) as MessagePack, and back, with the types that it had.

MessagePack has None, bool, int, float, str, bytes, list and dict. The others travel as extensions:
a tuple, a numpy array or scalar, an int of more than 64 bits, a text beyond ASCII (it may hold lone
surrogates, which MessagePack's texts may not) and a dict with such a key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec.msgpack import Decoder, Encoder, Ext

from batcher.plain_data import MAX_DEPTH, NUMBERS, describe_refused, is_numpy_scalar

_TEXT, _INT, _TUPLE, _DICT, _ARRAY, _SCALAR = range(6)
_FIRST_VECTOR = 32  # from here on: an array of one dimension, of the dtype at this place below

_LETTERS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
_USUAL = list(dict.fromkeys(np.dtype(order + name) for order in "=<>" for name in _LETTERS))
_VECTORS = {dtype: code for code, dtype in enumerate(_USUAL, _FIRST_VECTOR)}
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")  # dtype.str of a number's
_AS_IT_IS = frozenset({type(None), bool, float, bytes})
_INTS = range(-(1 << 63), 1 << 64)  # that MessagePack has

_encode = Encoder().encode


class Unsendable(Exception):
    """It is not plain data, or too large. The text says which."""


class Rows(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Arrays of one dtype and shape, as a batch's results are: one block of bytes."""

    dtype: str
    shape: tuple[int, ...]  # of each
    data: bytearray

    def split(self, count: int) -> list[Any]:
        """Raises ValueError or TypeError if the block is damaged."""
        return list(np.ndarray((count, *self.shape), _dtype_of(self.dtype), self.data))


def rows_of(values: Sequence[Any]) -> Rows | None:
    """None: they are not alike, or not each in one piece of memory."""
    first = values[0]
    if type(first) is not np.ndarray or not first.ndim:
        return None
    dtype, shape = first.dtype, first.shape
    for value in values:
        if (
            type(value) is not np.ndarray
            or value.dtype is not dtype
            or value.shape != shape
            or not value.flags.c_contiguous
        ):
            return None
    if dtype.kind not in NUMBERS:
        return None
    data = b"".join(values)
    return Rows(dtype.str, shape, data)  # type: ignore[arg-type]  # read into a bytearray, so that what arrives can be written to


def pack(value: Any, depth: int = MAX_DEPTH) -> Any:
    """What the encoder takes. Raises Unsendable."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else Ext(_TEXT, value.encode("utf-8", "surrogatepass"))
    if kind in _AS_IT_IS:
        return value
    if kind is int:
        return value if value in _INTS else Ext(_INT, _bytes_of(value))
    if kind is np.ndarray:
        return _pack_array(value)
    if kind in (list, tuple, dict) and depth:
        return _pack_container(value, depth - 1)
    if is_numpy_scalar(value) and value.dtype.kind in NUMBERS:
        return Ext(_SCALAR, _encode((value.dtype.str, value.tobytes())))
    raise Unsendable(describe_refused(value))


def _pack_container(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is list:
        return [pack(each, depth) for each in value]
    if kind is tuple:
        return Ext(_TUPLE, _encode([pack(each, depth) for each in value]))
    keys = [pack(each, depth) for each in value]
    values = [pack(each, depth) for each in value.values()]
    if any(type(key) is Ext for key in keys):
        return Ext(_DICT, _encode((keys, values)))
    return dict(zip(keys, values, strict=True))


def _pack_array(value: np.ndarray[Any, Any]) -> Ext:
    dtype = value.dtype
    if value.ndim == 1 and (code := _VECTORS.get(dtype)) is not None:
        return Ext(code, value.tobytes())
    if dtype.kind not in NUMBERS:
        raise Unsendable(describe_refused(value))
    return Ext(_ARRAY, _encode((dtype.str, value.shape, value.tobytes())))


def _bytes_of(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def unpack(code: int, data: memoryview) -> Any:
    """The value of an extension. Raises ValueError, TypeError or msgspec's DecodeError if it is
    damaged. An array has memory of its own, which can be written to."""
    if code >= _FIRST_VECTOR and code - _FIRST_VECTOR < len(_USUAL):
        return np.frombuffer(bytearray(data), _USUAL[code - _FIRST_VECTOR])
    if code == _TEXT:
        return str(data, "utf-8", "surrogatepass")
    if code == _ARRAY:
        name, shape, content = _read_array(data)
        return np.ndarray(shape, _dtype_of(name), content)
    if code == _TUPLE:
        return tuple(_read_list(data))
    if code == _DICT:
        keys, values = _read_dict(data)
        return dict(zip(keys, values, strict=True))
    if code == _INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _SCALAR:
        name, content = _read_scalar(data)
        return np.ndarray((), _dtype_of(name), content)[()]
    raise ValueError(f"a value of kind {code}, which is unknown")


def _dtype_of(name: str) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(name):
        raise ValueError(f"an array of {name!r}")
    return np.dtype(name)


_read_list = Decoder(list[Any], ext_hook=unpack).decode
_read_dict = Decoder(tuple[list[Any], list[Any]], ext_hook=unpack).decode
_read_array = Decoder(tuple[str, tuple[int, ...], bytearray]).decode
_read_scalar = Decoder(tuple[str, bytearray]).decode
