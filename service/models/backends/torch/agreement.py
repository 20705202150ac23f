"""Does one backend answer as another does? Asked once, at the start."""

from __future__ import annotations

import numpy as np

from service.models.backends import Backend
from service.models.heads import head_of
from service.repository.spec import EncoderSpec

# By dtype: what any number may differ by, as the task's measure has it.
CLOSE = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}


def check_agrees(one: Backend, other: Backend, spec: EncoderSpec) -> None:
    """Raises ValueError unless both make the same of a few sequences, but for rounding."""
    draw = np.random.default_rng(0)
    lengths = [min(length, spec.max_length) for length in (1, 7, 7, 20)]
    batch = [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in lengths]
    pairs = [np.arange(len(ids), dtype=np.int32) * 2 // len(ids) for ids in batch]
    distance = head_of(spec).measure.distance
    for types in (None, pairs) if spec.pairs_have_types else (None,):
        apart = distance(one.forward(batch, types), other.forward(batch, types))
        if not apart <= CLOSE[one.dtype]:
            raise ValueError(f"answers that are {apart:.2g} apart")
