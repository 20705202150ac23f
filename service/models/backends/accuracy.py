"""A backend whose reduced precision has been compared with float32, and put right where it can be.

What was found is noted in the cache folder: the next start compares nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from service.cache.notes import load_note, save_note
from service.cache.profiles import weights_of
from service.models import RunnerConfig
from service.models.backends import Backend, Ids, Open, Place, Say, Vectors
from service.models.backends.guard import FLOORS, Verdict, judge
from service.models.backends.reference_texts import tokenised
from service.models.backends.torch.eager import TorchBackend, load
from service.repository.spec import EncoderSpec

_TOGETHER = 8  # sentences in one batch: padded, as most batches are


class TooInaccurate(ValueError):
    """A reduced precision moves this model's answers too far. The text says what to set instead."""


class Opened(NamedTuple):
    backend: Backend
    facts: Mapping[str, object]  # what was decided about it, beside the backend's own


def open_guarded(
    opens: Open, config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say
) -> Opened:
    """In float32: as it is. Raises TooInaccurate, and what `opens` raises."""
    backend = opens(config, spec, place, say)
    if backend.dtype not in FLOORS:
        return Opened(backend, {})
    floor = FLOORS[backend.dtype] if config.min_cosine is None else config.min_cosine
    key = {
        "weights": weights_of(spec.folder),
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
        verdict = _compare(opens, backend, config, spec, place, say, floor)
        if why := save_note(config.cache_dir, "accuracy", key, dataclasses.asdict(verdict)):
            say(why)
    if not verdict.ok:
        backend.close()
        raise TooInaccurate(
            f"{backend.dtype} by backend {backend.name} moves this model's answers too far: cosine"
            f" {verdict.cosine:.4f} to float32, with {len(verdict.kept)} blocks of it in float32,"
            f" where {floor:g} is asked for; set BATCHER_DTYPE=float32, or a lower"
            " BATCHER_MIN_COSINE"
        )
    if verdict.kept and config.float32_blocks != verdict.kept:
        backend.close()
        backend = opens(_keeping(config, verdict.kept), spec, place, say)
    return Opened(backend, {"cosine": verdict.cosine, "float32_blocks": list(verdict.kept)})


def worst_cosine(vectors: Vectors, reference: Vectors) -> float:
    """Of two rows in the same place. NaN where a vector is not finite, or has no length."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.min(np.sum(vectors * reference, axis=1) / lengths))


def _compare(
    opens: Open,
    backend: Backend,
    config: RunnerConfig,
    spec: EncoderSpec,
    place: Place,
    say: Say,
    floor: float,
) -> Verdict:
    texts = tokenised(spec)
    device = torch.device(place.device)
    exact = TorchBackend(load(spec, device, torch.float32), spec, device)
    reference = _answers(exact, texts)
    exact.close()

    def cosine_with(kept: tuple[str, ...]) -> float:
        if not kept:
            return worst_cosine(_answers(backend, texts), reference)
        tried = opens(_keeping(config, kept), spec, place, say)
        try:
            cosine = worst_cosine(_answers(tried, texts), reference)
        finally:
            tried.close()
        say(f"{', '.join(kept)} in float32: cosine {cosine:.5f}")
        return cosine

    verdict = judge(cosine_with, getattr(backend, "blocks", ()), floor)
    said = f"{backend.dtype} by {backend.name} against float32: cosine {verdict.cosine:.5f} at the"
    said += f" worst of {len(texts)} sentences, {floor:g} is asked for"
    say(f"{said}; back in float32: {', '.join(verdict.kept)}" if verdict.kept else said)
    return verdict


def _answers(backend: Backend, texts: Sequence[Ids]) -> Vectors:
    starts = range(0, len(texts), _TOGETHER)
    return np.concatenate([backend.forward(texts[at : at + _TOGETHER]) for at in starts])


def _keeping(config: RunnerConfig, kept: tuple[str, ...]) -> RunnerConfig:
    return dataclasses.replace(config, float32_blocks=kept)


def _read(note: Mapping[str, object] | None) -> Verdict | None:
    match note:
        case {"cosine": float(cosine), "kept": list(kept), "ok": bool(ok)}:
            return Verdict(cosine, tuple(map(str, kept)), ok)
    return None
