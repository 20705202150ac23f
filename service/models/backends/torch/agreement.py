"""Does one backend answer as another does? Asked once, at the start."""

from __future__ import annotations

import numpy as np

from service.models.backends import Backend, Vectors
from service.repository.spec import EncoderSpec

# By dtype: what any number of two vectors of length 1 may differ by.
CLOSE = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}


def check_same(one: Backend, other: Backend, spec: EncoderSpec) -> None:
    """Raises ValueError unless both make the same of a few sequences, but for rounding."""
    draw = np.random.default_rng(0)
    lengths = [min(length, spec.max_length) for length in (1, 7, 7, 20)]
    batch = [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in lengths]
    apart = np.max(np.abs(_directions(one.forward(batch)) - _directions(other.forward(batch))))
    if not apart <= CLOSE[one.dtype]:
        raise ValueError(f"answers that are {apart:.2g} apart")


def _directions(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
