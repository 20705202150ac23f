"""A backend whose reduced precision has been compared with float32, and put right where it can be.

What was found is noted in the cache folder: the next start compares a reduced precision no more,
and float32 by a few texts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.cache.notes import load_note, save_note
from service.cache.profiles import weights_of
from service.errors import CannotServe
from service.models.backends import Backend, BlocksInFloat32, Open, Place, Say
from service.models.backends.reference_answers import (
    TOGETHER,
    ReferenceAnswers,
    answers_of,
    check,
    load,
)
from service.models.config import ModelConfig
from service.models.heads import head_of
from service.repository.spec import EncoderSpec
from service.version import VERSION

_FORMAT = 3  # of the notes, and of what is compared


class TooInaccurate(CannotServe):
    """A reduced precision moves this model's answers too far. The text says what to set instead."""


class Opened(NamedTuple):
    backend: Backend
    facts: Mapping[str, object]  # what was decided about it, beside the backend's own


def open_guarded(
    opens: Open, config: ModelConfig, spec: EncoderSpec, place: Place, say: Say
) -> Opened:
    """In float32 it must give the reference's answers, else come close to them. Raises Disagrees,
    TooInaccurate, and what `opens` raises."""
    backend = opens(config, spec, place, say)
    measure = head_of(spec).measure
    floor = measure.floor(backend.dtype, config.min_cosine)
    known = load(spec)
    if known is None:
        return Opened(backend, {})
    key = {
        "format": _FORMAT,
        "service": VERSION,  # what runs the model is our code, too
        "inspection": known.digest,
        "weights": weights_of(spec.folder),
        "task": spec.task,
        "pooling": spec.pooling,
        "backend": backend.name,
        "dtype": backend.dtype,
        "device": place.device_name,
        "versions": backend.versions,
        "floor": floor,
    }
    note, why = load_note(config.cache_dir, "accuracy", key)
    if why:
        say(f"{why}; comparing again …")
    if floor is None:
        try:
            apart = _checked(backend, spec, known, note)
        except Exception:
            backend.close()
            raise
        if note is None and (why := save_note(config.cache_dir, "accuracy", key, {"apart": apart})):
            say(why)
        return Opened(backend, {"reference_distance": apart})
    verdict = _read(note)
    if verdict is None or not verdict.ok:  # a refusal is looked into again each time
        verdict = _compare(opens, backend, config, spec, place, say, floor, known)
        if why := save_note(config.cache_dir, "accuracy", key, dataclasses.asdict(verdict)):
            say(why)
    if not verdict.ok:
        backend.close()
        raise TooInaccurate(
            f"{backend.dtype} by backend {backend.name} moves this model's answers too far:"
            f" {measure.name} {verdict.agreement:.4f} to float32, with {len(verdict.kept)} of its"
            f" blocks in float32, where {floor:g} is asked for; set BATCHER_DTYPE=float32"
            + (", or a lower BATCHER_MIN_COSINE" if measure.name == "cosine" else "")
        )
    if verdict.kept and config.float32_blocks != verdict.kept:
        backend.close()
        backend = opens(_keeping(config, verdict.kept), spec, place, say)
    return Opened(backend, {measure.name: verdict.agreement, "float32_blocks": list(verdict.kept)})


@dataclass(frozen=True, slots=True)
class Verdict:
    """With `kept` in float32 the worst answer agrees with float32's so far. `ok`: far enough."""

    agreement: float
    kept: tuple[str, ...]
    ok: bool


def judge(
    agreement_with: Callable[[tuple[str, ...]], float], blocks: Sequence[str], floor: float
) -> Verdict:
    """`agreement_with(kept)` is the worst answer's with those blocks in float32. Pure.

    Nothing is kept if that is good enough. Else the blocks go back one by one, the one that helps
    most by itself first, but never more than half of them: the rest would be no faster than float32
    and the dtype a lie. O(blocks) measurements.
    """
    agreement = _number(agreement_with(()))
    if agreement >= floor:
        return Verdict(agreement, (), True)
    most = (len(blocks) + 1) // 2
    alone = {block: _number(agreement_with((block,))) for block in blocks}
    kept: tuple[str, ...] = ()
    for block in sorted(blocks, key=lambda block: -alone[block])[:most]:
        kept = (*kept, block)
        agreement = alone[block] if len(kept) == 1 else _number(agreement_with(kept))
        if agreement >= floor:
            return Verdict(agreement, kept, True)
    return Verdict(agreement, kept, False)


def _compare(
    opens: Open,
    backend: Backend,
    config: ModelConfig,
    spec: EncoderSpec,
    place: Place,
    say: Say,
    floor: float,
    known: ReferenceAnswers,
) -> Verdict:
    # int8 was calibrated on usual texts, and is for these; the others are right for all.
    if backend.dtype == "int8":
        known = known.first(known.judged)
    inputs, types, reference = known.inputs, known.types, known.answers
    measure = head_of(spec).measure

    def agreement_with(kept: tuple[str, ...]) -> float:
        if not kept:
            return measure.agreement(answers_of(backend, inputs, types), reference)
        tried = opens(_keeping(config, kept), spec, place, say)
        try:
            agreement = measure.agreement(answers_of(tried, inputs, types), reference)
        finally:
            tried.close()
        say(f"{', '.join(kept)} in float32: {measure.name} {agreement:.5f}")
        return agreement

    blocks = backend.blocks if isinstance(backend, BlocksInFloat32) else ()
    verdict = judge(agreement_with, blocks, floor)
    said = f"{backend.dtype} by {backend.name} against float32: {measure.name} "
    said += f"{verdict.agreement:.5f} at the worst of {len(inputs)} inputs, {floor:g} is asked for"
    say(f"{said}; back in float32: {', '.join(verdict.kept)}" if verdict.kept else said)
    return verdict


def _checked(
    backend: Backend, spec: EncoderSpec, known: ReferenceAnswers, note: Mapping[str, object] | None
) -> float:
    """How far float32 is from the reference: by all inputs once, and by a batch of short ones at
    each later start. Raises Disagrees."""
    match note:
        case {"apart": float(apart)}:
            check(backend, spec, known.first(TOGETHER))
            return apart
    return check(backend, spec, known)


def _keeping(config: ModelConfig, kept: tuple[str, ...]) -> ModelConfig:
    return dataclasses.replace(config, float32_blocks=kept)


def _read(note: Mapping[str, object] | None) -> Verdict | None:
    match note:
        case {"agreement": float(agreement), "kept": list(kept), "ok": bool(ok)}:
            return Verdict(agreement, tuple(map(str, kept)), ok)
    return None


def _number(agreement: float) -> float:
    return -1.0 if math.isnan(agreement) else agreement
