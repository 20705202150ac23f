"""A backend that has been compared with the reference, and a reduced precision put right.

What was found is noted in the cache folder: the next start compares a few short inputs in float32,
and nothing in a reduced precision.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.cache.notes import load_note, save_note
from service.cache.profiles import content_of, weights_of
from service.errors import CannotServe
from service.models.backends import Backend, BlocksInFloat32, Open, Place, Say
from service.models.backends.reference_answers import (
    CLOSE,
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
    if floor is None:
        try:
            return Opened(backend, _checked(backend, config, spec, place, say, known))
        except Exception:
            backend.close()
            raise
    key = {
        "format": _FORMAT,
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
    verdict = _read(note)
    if verdict is None or not verdict.ok:  # a refusal is looked into again each time
        if why:
            say(f"{why}; comparing again …")
        verdict = _compare(opens, backend, config, spec, place, say, floor, known)
        if why := save_note(config.cache_dir, "accuracy", key, dataclasses.asdict(verdict)):
            say(why)
    if not verdict.ok:
        backend.close()
        raise TooInaccurate(
            f"{backend.dtype} by backend {backend.name} is not accurate enough for this model:"
            f" {measure.name} {verdict.agreement:.4f} to float32, with {len(verdict.kept)} of its"
            f" blocks in float32, where {floor:g} is asked for; set BATCHER_DTYPE=float32"
            + (", or a lower BATCHER_MIN_COSINE" if measure.name == "cosine" else "")
        )
    if verdict.kept and config.float32_blocks != verdict.kept:
        backend.close()
        backend = opens(_keeping(config, verdict.kept), spec, place, say)
    return Opened(backend, {measure.name: verdict.agreement, "float32_blocks": list(verdict.kept)})


def _checked(
    backend: Backend,
    config: ModelConfig,
    spec: EncoderSpec,
    place: Place,
    say: Say,
    known: ReferenceAnswers,
) -> Mapping[str, object]:
    """Facts of a float32 backend that gives the reference's answers: to a few inputs now, and to
    all now or at an earlier start. Raises Disagrees."""
    key = {
        "format": _FORMAT,
        "version": VERSION,
        "inspection": known.digest,
        "content": content_of(spec.folder),
        "task": spec.task,
        "pooling": spec.pooling,
        "backend": backend.name,
        "device": place.device_name,
        "instructions": place.instructions,
        "versions": backend.versions,
    }
    note, why = load_note(config.cache_dir, "agrees", key)
    match note:
        case {"distance": float(distance)} if distance <= CLOSE:
            # Whatever the files' names and times say: other weights give other answers.
            return {"reference_distance": max(distance, check(backend, spec, known.few()))}
    if why:
        say(f"{why}; comparing again …")
    distance = check(backend, spec, known)
    if why := save_note(config.cache_dir, "agrees", key, {"distance": distance}):
        say(why)
    return {"reference_distance": distance}


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
    is_int8 = backend.dtype == "int8"
    judged, rows = (slice(known.judged), known.judged_rows) if is_int8 else (slice(None),) * 2
    inputs, reference = known.inputs[judged], known.answers[rows]
    types = None if known.types is None else known.types[judged]
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


def _keeping(config: ModelConfig, kept: tuple[str, ...]) -> ModelConfig:
    return dataclasses.replace(config, float32_blocks=kept)


def _read(note: Mapping[str, object] | None) -> Verdict | None:
    match note:
        case {"agreement": float(agreement), "kept": list(kept), "ok": bool(ok)}:
            return Verdict(agreement, tuple(map(str, kept)), ok)
    return None


def _number(agreement: float) -> float:
    return -1.0 if math.isnan(agreement) else agreement
