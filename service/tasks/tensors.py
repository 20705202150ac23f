"""The tensors of one input of a model that declares them: from JSON, or as a protocol of tensors
has read them. What does not fit is refused, by the tensor's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batcher import Tensor
from service.errors import InputError, json_kind, quote

Value = NDArray[Any] | bytes | list[bytes]
"""Of one tensor. The elements of bytes are one alone where the shape is () or (1,), else a list."""

Row = Value | Mapping[str, Value]
"""Of one input: the value where the model declares one tensor, else each by its name."""

BYTES = "bytes"
_ANY = -1


def row_from(one: Any, declared: Sequence[Tensor]) -> Row:
    """Raises InputError."""
    if len(declared) == 1:
        return value_from(one, declared[0])
    names = [tensor.name for tensor in declared]
    if not isinstance(one, Mapping):
        rule = f"must be an object of {', '.join(names)}, not {json_kind(one)}"
        raise InputError(rule, kind="invalid_request")
    if unknown := [name for name in one if name not in names]:
        rule = f"there is no tensor {quote(unknown[0], 40)}; the model takes {', '.join(names)}"
        raise InputError(rule, kind="invalid_request")
    if missing := [name for name in names if name not in one]:
        raise InputError(f"{missing[0]} is missing", kind="invalid_request")
    return {tensor.name: value_from(one[tensor.name], tensor) for tensor in declared}


def value_from(given: Any, tensor: Tensor) -> Value:
    """Raises InputError."""
    if tensor.dtype == BYTES:
        return _elements(given, tensor)
    array = given if isinstance(given, np.ndarray) else _array(given, tensor)
    _check_shape(array.shape, tensor)
    return array


def count_of(one: Any) -> int:
    """How many numbers there are about, in lists within lists."""
    count = 1
    while isinstance(one, list | dict) and one:
        count *= len(one)
        one = one[0] if isinstance(one, list) else next(iter(one.values()))
    return count


def _array(given: Any, tensor: Tensor) -> NDArray[Any]:
    wanted = np.dtype(tensor.dtype)
    try:
        array = np.array(given)
    except (ValueError, OverflowError) as error:
        raise _wrong(tensor, f"is no array: {str(error).partition('.')[0]}") from None
    if array.size == 0:
        array = array.astype(wanted)
    fitting = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[wanted.kind]
    if array.dtype.kind not in fitting:
        what = {"b": "true or false", "f": "numbers"}.get(wanted.kind, "whole numbers")
        raise _wrong(tensor, f"must be {what} ({tensor.dtype}), not {json_kind(given)}")
    with np.errstate(over="ignore"):
        made = array.astype(wanted)
    is_same = np.isfinite(made).all() if wanted.kind == "f" else (made == array).all()
    if not is_same:
        raise _wrong(tensor, f"holds a number beyond {tensor.dtype}")
    return made


def _elements(given: Any, tensor: Tensor) -> bytes | list[bytes]:
    if isinstance(given, str | bytes):
        given, shape = [given], tuple[int, ...]()
    elif isinstance(given, list) and all(isinstance(each, str | bytes) for each in given):
        shape = (len(given),)
    else:
        raise _wrong(tensor, f"must be a text, or a list of texts, not {json_kind(given)}")
    is_one = tensor.shape in ((), (1,))
    if not (is_one and len(given) == 1):
        _check_shape(shape, tensor)
    elements = [_utf8(each, tensor) if isinstance(each, str) else each for each in given]
    return elements[0] if is_one else elements


def _utf8(text: str, tensor: Tensor) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _wrong(tensor, "holds a lone surrogate, which UTF-8 cannot say") from None


def _check_shape(shape: tuple[int, ...], tensor: Tensor) -> None:
    if len(shape) != len(tensor.shape) or any(
        wanted not in (_ANY, size) for wanted, size in zip(tensor.shape, shape, strict=True)
    ):
        raise _wrong(tensor, f"must be of shape {list(tensor.shape)}, not {list(shape)}")


def _wrong(tensor: Tensor, rule: str) -> InputError:
    return InputError(f"{tensor.name} {rule}", kind="invalid_request")
