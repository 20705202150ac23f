"""Vectors that are numbers all through, and an error for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


class NotFinite(ValueError):
    """The model's answer to this input holds a NaN or an infinity."""


def check_finite(vectors: NDArray[np.float32]) -> Sequence[Any]:
    """The matrix itself, or a list of its rows in which each bad one is a NotFinite."""
    good: NDArray[np.bool_] = np.all(np.isfinite(vectors), axis=1)
    if np.all(good):
        return cast(Sequence[Any], vectors)
    return [
        row if ok else NotFinite("the model's answer to this input is not finite (NaN or infinity)")
        for row, ok in zip(vectors, good.tolist(), strict=True)
    ]
