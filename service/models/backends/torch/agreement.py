"""Does one backend answer as another does, and a batch as its texts alone? Checked at the start."""

from __future__ import annotations

import numpy as np

from service.models.backends import Backend, Ids
from service.models.heads import head_of
from service.models.measures import stacked
from service.repository.spec import EncoderSpec, ModelNotSupported

# By dtype: what any number may differ by, as the task's measure has it.
CLOSE = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}
# What refuses a model is far more than rounding. Not int8: its answers depend on the batch.
FAR = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.2}


def check_agrees(one: Backend, other: Backend, spec: EncoderSpec) -> None:
    """Raises ValueError unless both make the same of a few sequences, but for rounding."""
    batch = _sequences(spec)
    pairs = [np.arange(len(ids), dtype=np.int32) * 2 // len(ids) for ids in batch]
    distance = head_of(spec).measure.distance
    for types in (None, pairs) if spec.pairs_have_types else (None,):
        apart = distance(stacked(one.forward(batch, types)), stacked(other.forward(batch, types)))
        if not apart <= CLOSE[one.dtype]:
            raise ValueError(f"answers that are {apart:.2g} apart")


def check_alone(backend: Backend, spec: EncoderSpec) -> None:
    """Raises ModelNotSupported if a text gets another answer beside a longer one, as of a model
    that does not mask what is padded (FNet, ConvBERT) or is padded on the left (XLNet)."""
    if backend.dtype not in FAR:
        return
    batch = _sequences(spec)
    alone = np.concatenate([stacked(backend.forward([ids])) for ids in batch])
    apart = head_of(spec).measure.distance(stacked(backend.forward(batch)), alone)
    if not apart <= FAR[backend.dtype]:
        raise ModelNotSupported(
            f"{spec.folder}: the answer to a text changes by {apart:.2g} beside a longer one: the"
            " model does not mask padding; with BATCHER_MAX_BATCH_SIZE=1 it runs each text alone"
        )


def _sequences(spec: EncoderSpec) -> list[Ids]:
    draw = np.random.default_rng(0)
    lengths = [min(length, spec.max_length) for length in (1, 7, 7, 20)]
    return [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in lengths]
