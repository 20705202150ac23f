"""Does one backend answer as another does, and a batch as its texts alone? Checked at the start."""

from __future__ import annotations

import numpy as np

from service.models.backends import Backend, Ids
from service.models.heads import head_of
from service.models.measures import Measure, Rows, stacked
from service.repository.spec import EncoderSpec, ModelNotSupported

COMPARED = ("float32", "float16", "bfloat16")  # not int8: its answers depend on the batch
# What any number may differ by in float32, as the task's measure has it. Of a reduced precision the
# answers must agree as it must with float32: one number of many says little of a direction.
CLOSE, FAR = 1e-4, 0.01  # what refuses a model is far more than rounding


def change(measure: Measure, dtype: str, found: Rows, expected: Rows, most: float) -> str:
    """`by 0.4`: how far they are apart, where that is more than rounding; else empty."""
    if dtype == "float32":
        apart = measure.distance(found, expected)
        return "" if apart <= most else f"by {apart:.2g}"
    agreement, least = measure.agreement(found, expected), measure.floor(dtype, None) or 0.0
    return "" if agreement >= least else f"to a {measure.name} of {agreement:.4f}"


def check_agrees(one: Backend, other: Backend, spec: EncoderSpec) -> None:
    """Raises ValueError unless both make the same of a few sequences, but for rounding."""
    batch = _sequences(spec)
    pairs = [np.arange(len(ids), dtype=np.int32) * 2 // len(ids) for ids in batch]
    measure = head_of(spec).measure
    for types in (None, pairs) if spec.pairs_have_types else (None,):
        found, expected = (stacked(each.forward(batch, types)) for each in (one, other))
        if how := change(measure, one.dtype, found, expected, CLOSE):
            raise ValueError(f"its answers differ {how}")


def check_alone(backend: Backend, spec: EncoderSpec) -> None:
    """Raises ModelNotSupported if a text gets another answer beside a longer one, as of a model
    that does not mask what is padded (FNet, ConvBERT) or is padded on the left (XLNet)."""
    if backend.dtype not in COMPARED:
        return
    batch = _sequences(spec)
    alone = np.concatenate([stacked(backend.forward([ids])) for ids in batch])
    batched = stacked(backend.forward(batch))
    if how := change(head_of(spec).measure, backend.dtype, batched, alone, FAR):
        raise ModelNotSupported(
            f"{spec.folder}: the answer to a text changes {how} beside a longer one: the"
            " model does not mask padding; with BATCHER_MAX_BATCH_SIZE=1 it runs each text alone"
        )


def _sequences(spec: EncoderSpec) -> list[Ids]:
    draw = np.random.default_rng(0)
    lengths = [min(length, spec.max_length) for length in (1, 7, 7, 20)]
    return [draw.integers(0, spec.vocab_size, n, dtype=np.int32) for n in lengths]
