"""One input of a model that declares its tensors: what fits, and what is refused by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batcher import Tensor
from service.errors import InputError
from service.tasks.tensors import row_from

PAIR = Tensor("x", "float32", (2,))
IDS = Tensor("ids", "int64", (-1,))


@pytest.mark.parametrize(
    ("tensor", "given", "array"),
    [
        (PAIR, [1, 2.5], np.array([1, 2.5], np.float32)),
        (PAIR, np.ones(2, np.float32), np.ones(2, np.float32)),
        (IDS, [1, 2, 3], np.array([1, 2, 3])),
        (IDS, [], np.zeros(0, np.int64)),
        (Tensor("b", "bool"), True, np.array(True)),
        (Tensor("m", "uint8", (1, -1)), [[255]], np.array([[255]], np.uint8)),
    ],
    ids=str,
)
def test_json_becomes_the_array_that_is_declared(
    tensor: Tensor, given: Any, array: np.ndarray[Any, Any]
) -> None:
    made = row_from(given, [tensor])
    assert isinstance(made, np.ndarray)
    assert made.dtype == array.dtype
    assert np.array_equal(made, array)


@pytest.mark.parametrize(
    ("shape", "given", "made"),
    [((), "ä", b"\xc3\xa4"), ((1,), ["a"], b"a"), ((-1,), ["a", "b"], [b"a", b"b"])],
)
def test_bytes_are_texts(shape: tuple[int, ...], given: Any, made: Any) -> None:
    assert row_from(given, [Tensor("text", "bytes", shape)]) == made


@pytest.mark.parametrize(
    ("tensor", "given", "rule"),
    [
        (PAIR, [1], "x must be of shape [2], not [1]"),
        (PAIR, [[1, 2]], "x must be of shape [2], not [1, 2]"),
        (PAIR, 5, "x must be of shape [2], not []"),
        (PAIR, "a", "x must be numbers (float32), not the text"),
        (PAIR, None, "x must be numbers"),
        (PAIR, [[1], [1, 2]], "x is no array"),
        (PAIR, [1, 1e39], "x holds a number beyond float32"),
        (PAIR, [True, False], "x must be numbers"),
        (IDS, [1.5], "ids must be whole numbers"),
        (IDS, [2**63], "ids holds a number beyond int64"),
        (Tensor("m", "uint8"), -1, "m holds a number beyond uint8"),
        (Tensor("m", "uint8"), 256, "m holds a number beyond uint8"),
        (Tensor("b", "bool"), 1, "b must be true or false"),
        (Tensor("t", "bytes"), 1, "t must be a text"),
        (Tensor("t", "bytes"), ["a", "b"], "t must be of shape []"),
        (Tensor("t", "bytes"), "\ud800", "lone surrogate"),
        (PAIR, np.ones(3), "x must be of shape [2], not [3]"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_its_name(tensor: Tensor, given: Any, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        row_from(given, [tensor])
    assert rule in str(caught.value)
    assert caught.value.kind == "invalid_request"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ([1, 2], "must be an object of x, ids, not a list"),
        ({"x": [1, 2]}, "ids is missing"),
        ({"x": [1, 2], "ids": [1], "y": 1}, "there is no tensor 'y'"),
        ({"x": [1], "ids": [1]}, "x must be of shape"),
    ],
    ids=str,
)
def test_several_tensors_are_an_object_of_all_of_them(given: Any, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        row_from(given, [PAIR, IDS])
    assert rule in str(caught.value)


def test_several_tensors_are_a_dict_by_their_names() -> None:
    row = row_from({"x": [1, 2], "ids": [3]}, [PAIR, IDS])
    assert isinstance(row, dict)
    assert row["ids"].tolist() == [3]
