"""Tensors of Open Inference V2: those that a model declares, and those that come with a request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.oip.datatypes import (
    BYTES,
    Elements,
    datatype_of,
    elements_in,
    item_size,
    numbers_in,
)
from service.errors import InputError, quote
from service.tasks.text_inputs import whole

Shape = tuple[int, ...]
ANY = -1  # of a dimension: any size
_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 2**40  # more than any body holds


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model declares. The first dimension is that of the rows; each is one input of the
    engine, so it is in a batch with those of all other callers."""

    name: str
    datatype: str
    shape: Shape  # ANY: of any size
    is_optional: bool = False
    labels: Sequence[str] = ()  # of the places in the last dimension

    @property
    def is_column(self) -> bool:
        """One value for each row. Not of one dimension: perf_analyzer sends none of those."""
        return self.shape[1:] == (1,)


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a caller sends, of a name and datatype that the model declares. Numbers have the shape;
    the elements of BYTES are in a row."""

    name: str
    shape: Shape
    values: NDArray[Any] | Elements

    @property
    def rows(self) -> int:
        return self.shape[0]


@dataclass(frozen=True, slots=True)
class Output:
    """What is answered. Numbers may be of the shape already; elements of BYTES are in a row."""

    shape: Shape
    values: NDArray[Any] | Sequence[bytes | str]

    @classmethod
    def of(cls, values: NDArray[Any] | Sequence[bytes | str]) -> Output:
        """Of BYTES: one element for each row."""
        return cls(values.shape if isinstance(values, np.ndarray) else (len(values), 1), values)

    @property
    def datatype(self) -> str:
        return datatype_of(self.values) if isinstance(self.values, np.ndarray) else BYTES


def shape_from(value: object, name: str) -> Shape:
    """Raises InputError."""
    if not isinstance(value, list) or len(value) > _MOST_DIMENSIONS:
        raise InputError(
            f"must be a list of at most {_MOST_DIMENSIONS} whole numbers", field=f"{name}.shape"
        )
    sizes: list[int] = []
    for each in value:
        size = whole(each)
        if type(size) is not int or size < 0:
            rule = f"holds {quote(each, 30)}, which is not a whole number from 0"
            raise InputError(rule, field=f"{name}.shape")
        sizes.append(size)
    if math.prod(sizes) > _MOST_ELEMENTS:
        raise InputError("is of more elements than a body can have", field=f"{name}.shape")
    return tuple(sizes)


def find_spec(specs: Sequence[TensorSpec], name: str, datatype: str) -> TensorSpec:
    """Of a tensor that a caller sends. Raises InputError."""
    spec = next((each for each in specs if each.name == name), None)
    if spec is None:
        there = ", ".join(f"{each.name} ({each.datatype})" for each in specs)
        rule = f"there is no input {quote(name, 40)}; this model takes {there}"
        raise InputError(rule, field="inputs")
    if datatype != spec.datatype:
        raise InputError(f"is {spec.datatype}, not {quote(datatype, 40)}", field=name)
    return spec


def tensor_of(
    spec: TensorSpec, shape: Shape, values: NDArray[Any] | Elements | memoryview
) -> Tensor:
    """Of what has been sent for it; a memoryview is binary data. Raises InputError, which names
    it."""
    count = math.prod(shape)
    try:
        if isinstance(values, memoryview):
            is_bytes = spec.datatype == BYTES
            values = (
                elements_in(values, count) if is_bytes else numbers_in(values, spec.datatype, count)
            )
        if len(values) != count:
            rule = f"is of shape {list(shape)}, which is {count}, and has {len(values)} elements"
            raise InputError(rule)
        shape = _fitted(spec, shape)
    except InputError as error:
        raise error.at(spec.name) from None
    return Tensor(
        spec.name, shape, values.reshape(shape) if isinstance(values, np.ndarray) else values
    )


def raw_tensor(spec: TensorSpec, data: memoryview) -> Tensor:
    """Of a body that is nothing but it: one row. Raises InputError."""
    row = spec.shape[1:]
    if spec.datatype == BYTES:
        if not set(row) <= {1, ANY}:
            raise InputError("has several elements a row: send its shape", field=spec.name)
        return Tensor(spec.name, (1,) * len(spec.shape), [bytes(data)])
    least = math.prod(size for size in row if size != ANY) * item_size(spec.datatype)
    if row.count(ANY) > 1 or not least:
        raise InputError("has several open sizes: send its shape", field=spec.name)
    shape = (1, *(len(data) // least if size == ANY else size for size in row))
    return tensor_of(spec, shape, data)


def _fitted(spec: TensorSpec, shape: Shape) -> Shape:
    """The shape, if it is one of the declared. Raises InputError."""
    # KServe's clients send one text with no dimension at all, and a list of them is of one.
    if spec.is_column and len(shape) < 2:
        shape = (shape[0] if shape else 1, 1)
    fits = len(shape) == len(spec.shape) and all(
        wanted in (ANY, size) for wanted, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"must be of shape {list(spec.shape)}, not {list(shape)}")
    if shape[0] == 0:
        raise InputError("has no rows; at least one is needed", kind="empty")
    return shape
