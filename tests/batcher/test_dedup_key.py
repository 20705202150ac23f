"""Equal to the last bit, or not known to be equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batcher.plain_data import dedup_key


class Text(str):
    """A user's own type, whose equality is its own affair."""


class Rows(np.ndarray):  # type: ignore[type-arg]
    """Likewise."""


def array(*values: Any, dtype: str = "f4") -> np.ndarray[Any, Any]:
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("text", "".join(["te", "xt"])),
        (b"bytes", bytes(bytearray(b"bytes"))),
        (array(1, 2), array(1, 2)),
        (array(1, 2, dtype="i8"), np.array([1, 0, 2, 0], dtype="i8")[::2]),  # not contiguous
        (np.ones((2, 3)), np.asfortranarray(np.ones((2, 3)))),
        (array(float("nan")), array(float("nan"))),
        (array(True, dtype="?"), array(True, dtype="?")),
        ({"ids": array(1), "types": array(0)}, {"ids": array(1), "types": array(0)}),
    ],
)
def test_the_same_input_has_the_same_key(one: Any, other: Any) -> None:
    assert one is not other
    assert dedup_key(one) is not None
    assert dedup_key(one) == dedup_key(other)
    assert hash(dedup_key(one)) == hash(dedup_key(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("text", "Text"),
        ("text", b"text"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"),
        (array(1, 2), array(1, 3)),
        (array(1, 2), array(1, 2, dtype="f8")),
        (array(1, 2, dtype="i4"), array(1, 2, dtype="u4")),
        (array(1, dtype="<i4"), array(1, dtype=">i4")),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(6), np.zeros((1, 6))),
        (array(0.0), array(-0.0)),
        (array(0.0), array(0.0).tobytes()),
        ({"ids": array(1)}, array(1)),
        ({"ids": array(1)}, {"types": array(1)}),
        ({"ids": array(1), "types": array(0)}, {"ids": array(1), "types": array(1)}),
    ],
)
def test_what_differs_in_any_bit_differs_in_its_key(one: Any, other: Any) -> None:
    assert dedup_key(one) != dedup_key(other)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        7,
        1.5,
        ["text"],
        ("question", "passage"),
        {"text": 1},
        {},
        {"ids": array(1), "text": "text"},
        {1: array(1)},
        {"texts": np.array(["text"])},
        bytearray(b"bytes"),
        Text("text"),
        np.zeros(3).view(Rows),
        np.array(["text", None], dtype=object),
        np.array(["text"]),
        np.float32(1.0),
    ],
    ids=repr,
)
def test_what_is_not_known_to_be_equal_has_no_key(payload: Any) -> None:
    assert dedup_key(payload) is None


def test_a_key_is_of_what_the_array_was_and_not_of_what_becomes_of_it() -> None:
    payload = array(1, 2)
    key = dedup_key(payload)
    payload[0] = 9
    assert key == dedup_key(array(1, 2)) != dedup_key(payload)
