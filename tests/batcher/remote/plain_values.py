"""Plain data of all kinds for hypothesis, and whether two values are the same to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

DTYPES = [
    "?",
    "i1",
    "<i2",
    ">i4",
    "<i8",
    "u1",
    "<u8",
    "<f2",
    ">f2",
    "<f4",
    "<f8",
    ">f8",
    "<c8",
    "g",
]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Also without dimensions, empty, not in one piece, and transposed."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    count = int(np.prod(shape, dtype=int))
    content = draw(st.binary(min_size=count, max_size=count))
    array = np.frombuffer(content, np.int8).astype(draw(st.sampled_from(DTYPES))).reshape(shape)
    if array.ndim and draw(st.booleans()):
        array = array[::2]
    return array.T if draw(st.booleans()) else array


scalars = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st.integers(0, 100).map(lambda value: np.array(value).astype(dtype)[()])
)
texts = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too
ints = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([2**63, 2**64 - 1, 2**64])
atoms = st.none() | st.booleans() | ints | st.floats() | texts | st.binary()
keys = st.recursive(atoms | scalars, lambda inner: st.lists(inner, max_size=2).map(tuple))
plain_values: st.SearchStrategy[Any] = st.recursive(
    atoms | scalars | arrays(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=10,
)


def is_same(one: Any, other: Any) -> bool:
    """In type and value, all through; arrays in dtype, shape and bytes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict):  # in its order, too
        return is_same(list(one), list(other)) and is_same([*one.values()], [*other.values()])
    if isinstance(one, float):
        alike = math.isnan(one) and math.isnan(other)
        return alike or (one == other and math.copysign(1, one) == math.copysign(1, other))
    return bool(one == other)
