"""The datatypes of Open Inference V2, and what a tensor holds: from JSON, from bytes, and back.

Pure. Bytes are little-endian and in row-major order. The errors are about one tensor, which the
caller names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InputError, json_kind, quote

Elements = list[bytes | str]
"""Of BYTES: as they came, a text where that was JSON."""

BYTES = "BYTES"
BF16 = "BF16"  # the upper half of a float32; numpy has no such type
NUMBERS: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
DATATYPES = (*NUMBERS, BF16, BYTES)

_NAMES = {dtype: name for name, dtype in NUMBERS.items()}
_LENGTH = 4  # bytes before each element of BYTES: how many follow, as uint32
_EXACT = 2**53  # up to there a float is one whole number
_LEVELS = 64  # of lists within lists; numpy has no more dimensions


def item_size(datatype: str) -> int:
    """Bytes; not of BYTES."""
    return 2 if datatype == BF16 else NUMBERS[datatype].itemsize


def datatype_named(dtype: str) -> str | None:
    """Of a dtype of numpy's; None: there is no such datatype."""
    return _NAMES.get(np.dtype(dtype))


def datatype_of(array: NDArray[Any]) -> str:
    return _NAMES[array.dtype]


# From JSON


def numbers_from(data: list[Any], datatype: str) -> NDArray[Any]:
    """One dimension, in row-major order, of a list that may be nested. Raises InputError."""
    if datatype == BF16:
        raise InputError("BF16 has no form in JSON: send it as binary data")
    values, dtype = flat(data), NUMBERS[datatype]
    kinds = set(map(type, values))
    if dtype.kind == "b":
        _check_all(values, kinds, {bool}, "true or false")
    elif dtype.kind == "f":
        _check_all(values, kinds, {int, float}, "a number")
    else:
        _check_all(values, kinds, {int, float}, "a whole number")
        if float in kinds:
            values = [_whole(each) for each in values]
        _check_range(values, np.iinfo(dtype), datatype)
    with np.errstate(over="ignore"):
        array = np.array(values, dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():  # JSON has none but finite numbers
        _check_range(values, np.finfo(dtype), datatype)
    return array


def texts_from(data: list[Any]) -> Elements:
    """The elements of BYTES. Raises InputError."""
    values = flat(data)
    _check_all(values, set(map(type, values)), {str}, "a text")
    return values


def flat(data: list[Any]) -> list[Any]:
    """Without its inner lists, whatever their lengths: the shape says what they are. Raises
    InputError."""
    for _ in range(_LEVELS):
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        if len(kinds) > 1:
            raise InputError("holds lists and values side by side")
        data = list(chain.from_iterable(data))
    raise InputError(f"is nested in more than {_LEVELS} levels")


def _check_all(values: Sequence[Any], kinds: set[type], wanted: set[type], what: str) -> None:
    if not kinds <= wanted:
        place = next(place for place, each in enumerate(values) if type(each) not in wanted)
        raise InputError(f"element {place} must be {what}, not {json_kind(values[place])}")


def _whole(value: float) -> int:
    if type(value) is float and not (value.is_integer() and abs(value) <= _EXACT):
        raise InputError(f"{quote(value, 30)} is not a whole number")
    return int(value)


def _check_range(values: Sequence[Any], limits: Any, datatype: str) -> None:
    low, high = limits.min, limits.max
    if isinstance(low, np.floating):  # numpy would compare in that precision
        low, high = float(low), float(high)
    if values and not low <= min(values) <= max(values) <= high:
        worst = next(each for each in values if not low <= each <= high)
        raise InputError(f"{quote(worst, 30)} is beyond {datatype}")


# From bytes


def numbers_in(data: memoryview, datatype: str, count: int) -> NDArray[Any]:
    """One dimension, without a copy but for BF16, which becomes FP32. Raises InputError."""
    size = count * item_size(datatype)
    if len(data) != size:
        raise InputError(f"has {len(data)} bytes of binary data; {count} of {datatype} are {size}")
    array: NDArray[Any] = np.frombuffer(data, NUMBERS.get(datatype, np.dtype("<u2")))
    if datatype == BF16:
        return (array.astype("<u4") << 16).view("<f4")
    if datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise InputError("a BOOL must be a byte of 0 or 1")
    return array


def elements_in(data: memoryview, count: int) -> Elements:
    """Of BYTES: each begins with its length. Raises InputError."""
    if count * _LENGTH > len(data):
        raise InputError(
            f"has {len(data)} bytes of binary data, too few for {count} elements of BYTES"
        )
    elements: Elements = []
    start = 0
    for place in range(count):
        begin = start + _LENGTH
        length = int.from_bytes(data[start:begin], "little")
        start = begin + length
        if start > len(data):
            raise InputError(f"element {place} is said to have {length} bytes; fewer follow")
        elements.append(bytes(data[begin:start]))
    if start != len(data):
        raise InputError(f"has {len(data) - start} bytes more than its {count} elements")
    return elements


# To bytes


def to_bytes(values: NDArray[Any] | Sequence[bytes | str]) -> bytes:
    """As the binary data of a tensor; of BYTES the elements."""
    if isinstance(values, np.ndarray):
        return values.astype(NUMBERS[datatype_of(values)], copy=False).tobytes()
    encoded = [each.encode() if isinstance(each, str) else each for each in values]
    return b"".join(
        part for each in encoded for part in (len(each).to_bytes(_LENGTH, "little"), each)
    )
