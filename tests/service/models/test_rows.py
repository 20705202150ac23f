from __future__ import annotations

import numpy as np

from service.models.rows import pad, plain


def rows(*lengths: int) -> list[np.ndarray]:
    return [np.arange(1, n + 1, dtype=np.int32) for n in lengths]


def test_short_inputs_are_padded_on_the_right_and_masked() -> None:
    batch = pad(rows(3, 1), pad_id=9)
    assert batch.ids.tolist() == [[1, 2, 3], [1, 9, 9]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.ids.dtype == batch.mask.dtype == np.int64
    assert not batch.is_full


def test_equal_lengths_need_no_mask() -> None:
    assert pad(rows(2, 2), pad_id=0).is_full
    assert pad(rows(5), pad_id=0).is_full


def test_each_matrix_is_allocated_once() -> None:
    shapes = []

    def counting(shape: tuple[int, int]) -> np.ndarray:
        shapes.append(shape)
        return plain(shape)

    pad(rows(3, 1, 2), pad_id=0, allocate=counting)
    assert shapes == [(3, 3), (3, 3)]


def test_memory_that_was_used_before_is_written_all_over() -> None:
    batch = pad(rows(3, 1), pad_id=0, allocate=lambda shape: np.full(shape, -1, dtype=np.int64))
    assert (batch.ids >= 0).all()
    assert (batch.mask >= 0).all()


def test_token_types_are_padded_with_0_and_are_none_unless_given() -> None:
    types = [np.array([0, 1, 1], np.int32), np.array([1], np.int32)]
    assert pad(rows(3, 1), pad_id=9, types=types).types.tolist() == [[0, 1, 1], [1, 0, 0]]  # type: ignore[union-attr]
    assert pad(rows(3, 1), pad_id=9).types is None
