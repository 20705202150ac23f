"""Sequences end to end: nothing lost, nothing mixed, positions as the models count them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from service.models.backends.torch.packed import Group, pack, positions_after


def sequences(*lengths: int) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """The numbers of a sequence say which one it is: 100, 101, … is the first."""
    return [np.arange(n, dtype=np.int32) + 100 * (i + 1) for i, n in enumerate(lengths)]


def test_equal_lengths_make_one_group_in_the_callers_order() -> None:
    packed = pack(sequences(2, 2))
    assert packed.ids.tolist() == [100, 101, 200, 201]
    assert packed.positions.tolist() == [0, 1, 0, 1]
    assert (packed.groups, packed.order.tolist()) == ([Group(0, 2, 2)], [0, 1])


def test_the_shortest_come_first_and_like_lengths_lie_together() -> None:
    packed = pack(sequences(3, 1, 3))
    assert packed.ids.tolist() == [200, 100, 101, 102, 300, 301, 302]
    assert packed.groups == [Group(0, 1, 1), Group(1, 2, 3)]
    assert packed.order.tolist() == [1, 0, 2]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=64))
def test_every_sequence_is_found_again_where_the_order_says(lengths: list[int]) -> None:
    given_sequences = sequences(*lengths)
    packed = pack(given_sequences)
    rows = [
        row
        for group in packed.groups
        for row in packed.ids[group.tokens].reshape(group.size, group.length)
    ]
    assert len(packed.ids) == len(packed.positions) == sum(lengths)
    for place, row in zip(packed.order, rows, strict=True):
        np.testing.assert_array_equal(row, given_sequences[place])


def test_robertas_positions_start_behind_the_padding_id_and_pass_over_it() -> None:
    packed = pack([np.array([5, 1, 6], np.int32), np.array([7, 8], np.int32)])
    places = positions_after(packed.ids, packed.groups, pad_id=1)
    assert packed.ids.tolist() == [7, 8, 5, 1, 6]
    assert places.tolist() == [2, 3, 2, 1, 3]


def test_token_types_go_where_their_tokens_go() -> None:
    packed = pack(sequences(3, 1), [np.array([0, 1, 2], np.int32), np.array([7], np.int32)])
    assert packed.types is not None
    assert packed.types.tolist() == [7, 0, 1, 2]
    assert pack(sequences(3, 1)).types is None
