"""The cache of answers: bounded in bytes, by what is really used, and nobody can spoil it."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.scheduling.answer_cache import AnswerCache

ROOM = 1 << 20


def size_of(key: Any, value: Any) -> int:
    answers = AnswerCache(ROOM)
    answers.put(key, value)
    return answers.bytes


def test_an_answer_is_found_by_its_key_and_by_no_other() -> None:
    answers = AnswerCache(ROOM)
    answers.put("a", "the answer")
    assert answers.get("a") == "the answer"
    assert answers.get("b") is None
    assert answers.get(b"a") is None


def test_without_room_nothing_is_kept() -> None:
    answers = AnswerCache(0)
    answers.put("a", "")
    assert (len(answers), answers.bytes, answers.get("a")) == (0, 0, None)


def test_the_one_unused_for_longest_goes_first() -> None:
    answers = AnswerCache(3 * size_of("a", 1.5))
    for key in "abc":
        answers.put(key, 1.5)
    assert answers.get("a") == 1.5
    answers.put("d", 1.5)
    assert [answers.get(key) for key in "abcd"] == [1.5, None, 1.5, 1.5]


def test_a_new_answer_takes_the_place_of_the_old() -> None:
    answers = AnswerCache(ROOM)
    answers.put("a", b"x" * 1000)
    answers.put("a", b"y")
    assert answers.get("a") == b"y"
    assert (len(answers), answers.bytes) == (1, size_of("a", b"y"))


def test_what_is_larger_than_the_bound_is_not_kept_and_drives_nobody_out() -> None:
    answers = AnswerCache(2000)
    answers.put("a", b"small")
    answers.put("b", b"x" * 2000)
    assert (answers.get("a"), answers.get("b")) == (b"small", None)
    answers.put("x" * 2000, b"small")
    assert len(answers) == 1
    answers.put("a", b"x" * 2000)  # what was true of it is true no longer
    assert answers.get("a") is None


def test_a_row_does_not_hold_its_batch_in_memory() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    answers = AnswerCache(ROOM)
    answers.put("a", matrix[1])
    kept = answers.get("a")
    np.testing.assert_array_equal(kept, [4, 5, 6, 7])
    assert kept.base is None
    matrix[1] = 0
    np.testing.assert_array_equal(answers.get("a"), [4, 5, 6, 7])


def test_nobody_can_change_what_others_will_be_given() -> None:
    answers = AnswerCache(ROOM)
    mine = np.ones(4, np.float32)
    answers.put("a", mine)
    mine[0] = 2  # mine still
    with pytest.raises(ValueError, match="read-only"):
        answers.get("a")[0] = 3
    np.testing.assert_array_equal(answers.get("a"), np.ones(4))


@pytest.mark.parametrize(
    "value",
    [None, [1.0], {"a": 1}, object(), ValueError("no"), np.array([object()]), ([1],)],
    ids=["none", "a list", "a mapping", "an object", "an error", "an array of objects", "a tuple"],
)
def test_what_others_could_change_is_not_kept(value: Any) -> None:
    answers = AnswerCache(ROOM)
    answers.put("a", 1)
    answers.put("a", value)
    assert (answers.get("a"), len(answers), answers.bytes) == (None, 0, 0)


def test_the_bytes_it_counts_are_those_it_takes() -> None:
    batch = np.random.default_rng(0).random((64, 384), np.float32)
    answers = AnswerCache(64 << 20)
    gc.collect()  # what earlier tests left must not go in the middle
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5_000):
            answers.put(
                ("<i4", (3,), f"a text of some length, number {number}"), batch[number % 64]
            )
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 < taken / answers.bytes < 1.05


KEYS = st.sampled_from("abcdefgh") | st.sampled_from([b"a", ("<i4", (1,), b"a")])
VALUES = st.one_of(
    st.integers(0, 600).map(bytes),
    st.integers(0, 150).map(lambda length: np.zeros(length, np.float32)),
    st.just([]),
)


@given(
    st.integers(0, 2_500),
    st.lists(st.tuples(KEYS, st.none() | VALUES), max_size=60),
)
def test_it_is_never_above_its_bound_and_forgets_in_order_of_use(
    limit: int, steps: list[tuple[Any, Any]]
) -> None:
    """Against a list that is in order of use, the last used last. A step without a value asks."""
    answers = AnswerCache(limit)
    model: list[tuple[Any, Any]] = []
    for key, value in steps:
        found = [one for one in model if one[0] == key]
        if value is None:
            got = answers.get(key)
            assert (got is None) == (found == [])
            if found:
                np.testing.assert_array_equal(got, found[0][1])
        else:
            answers.put(key, value)
        model = [one for one in model if one[0] != key]
        if value is None:
            model += found
        elif not isinstance(value, list) and size_of(key, value) <= limit:
            model.append((key, value))
            while sum(size_of(*one) for one in model) > limit:
                model.pop(0)
        assert answers.bytes == sum(size_of(*one) for one in model) <= limit
        assert len(answers) == len(model)
    assert [key for key, _ in model] == list(answers._kept)
