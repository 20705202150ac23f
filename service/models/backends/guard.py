"""What a reduced precision may cost: which blocks of a model go back to float32. Decisions only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FLOORS = {"bfloat16": 0.999, "float16": 0.999, "int8": 0.98}


@dataclass(frozen=True, slots=True)
class Verdict:
    """With `kept` in float32 the worst answer has `cosine` to float32's. `ok`: that is enough."""

    cosine: float
    kept: tuple[str, ...]
    ok: bool


def judge(
    cosine_with: Callable[[tuple[str, ...]], float], blocks: Sequence[str], floor: float
) -> Verdict:
    """`cosine_with(kept)` is the worst cosine with those blocks in float32.

    Nothing is kept if that is good enough. Else the blocks go back one by one, the one that helps
    most by itself first, but never more than half of them: the rest would be no faster than float32
    and the dtype a lie. O(blocks) measurements.
    """
    cosine = _number(cosine_with(()))
    if cosine >= floor:
        return Verdict(cosine, (), True)
    most = (len(blocks) + 1) // 2
    alone = {block: _number(cosine_with((block,))) for block in blocks}
    kept: tuple[str, ...] = ()
    for block in sorted(blocks, key=lambda block: -alone[block])[:most]:
        kept = (*kept, block)
        cosine = alone[block] if len(kept) == 1 else _number(cosine_with(kept))
        if cosine >= floor:
            return Verdict(cosine, kept, True)
    return Verdict(cosine, kept, False)


def _number(cosine: float) -> float:
    return -1.0 if math.isnan(cosine) else cosine
