"""What every client of the engine takes, and what none does."""

from __future__ import annotations

import collections
import datetime
import enum
import re
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from batcher.plain_data import MAX_DEPTH, refusal


class Point(NamedTuple):
    x: int


class Colour(enum.IntEnum):
    RED = 1


def nested(depth: int, innermost: Any = 1) -> Any:
    value = innermost
    for number in range(depth):
        value = [[value], (value,), {"in": value}][number % 3]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


PLAIN: list[Any] = [
    None,
    True,
    2**100,
    -(2**63) - 1,
    float("nan"),
    "",
    "é\ud800",
    b"\xff",
    [],
    (),
    {},
    [1, ("a", {"b": [b"c", None]})],
    {1: "int", False: "bool", None: 0, 1.5: 0, b"b": 0, (1, ("a",)): 0, np.int8(3): 0},
    np.zeros((), np.float16),
    np.zeros((0, 3), ">c16"),
    [{"ids": np.arange(3), "mask": (np.ones(3, bool),)}],
    np.float32(1.5),
    np.bool_(True),
    nested(MAX_DEPTH),
]

REFUSED: list[tuple[Any, str]] = [
    (object(), r"type builtins\.object"),
    ({1, 2}, r"type builtins\.set"),
    (bytearray(b"a"), r"type builtins\.bytearray"),
    (1j, r"type builtins\.complex"),
    (datetime.date(2026, 1, 1), r"type datetime\.date"),
    (collections.OrderedDict(a=1), r"type collections\.OrderedDict"),
    (Point(1), r"Point"),
    (Colour.RED, r"Colour"),
    (np.array([object()]), "an array of object"),
    (np.array(["a"]), "an array of <U1"),
    (np.array(["2026"], "datetime64[Y]"), "an array of datetime64"),
    (np.zeros(2, [("a", "i4")]), "an array of "),
    (np.zeros((2, 2)).view(np.matrix), r"type numpy\.matrix"),
    (np.str_("a"), r"type numpy\.str_"),
    (np.datetime64("2026"), r"type numpy\.datetime64"),
    ([("a", {"b": object()})], r"type builtins\.object"),
    ({(1, frozenset()): 1}, r"type builtins\.frozenset"),
    (nested(MAX_DEPTH + 1), "nested too deep"),
    (nested(5_000), "nested too deep"),
    (endless(), "nested too deep"),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_is_not_refused(value: Any) -> None:
    assert refusal(value) is None


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=lambda each: type(each).__name__)
def test_everything_else_is_refused_by_name_and_with_the_rule(value: Any, says: str) -> None:
    why = refusal(value)
    assert why is not None
    assert re.search(says, why)
    assert "only None, bool, int, float, str, bytes, numpy arrays" in why


def test_the_engine_brings_in_neither_numpy_nor_msgspec() -> None:
    code = (
        "import sys, batcher; from batcher.plain_data import refusal;"
        "assert refusal([1, object()]);"
        "print(sorted({'numpy', 'msgspec'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
