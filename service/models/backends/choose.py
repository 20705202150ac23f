"""Which backend runs the model: the one that BATCHER_BACKEND names, or what is measured fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from service.cache.notes import by_one, load_note, one_line, save_note
from service.cache.profiles import content_of
from service.models import RunnerConfig
from service.models.backends import Backend, BackendNotAvailable, Open, Place, Say
from service.models.backends.accuracy import Opened, TooInaccurate, open_guarded
from service.models.backends.extras import missing
from service.models.backends.onnx.export import torch_versions
from service.models.backends.onnx.openvino import open_openvino
from service.models.backends.onnx.openvino import versions as openvino_versions
from service.models.backends.onnx.session import open_onnx
from service.models.backends.onnx.session import versions as onnx_versions
from service.models.backends.paired import PairedBackend
from service.models.backends.race import FORMAT, Stumbled, Times, choose, from_note, race
from service.models.backends.torch.open import open_torch
from service.models.precision import choose_dtype, has_native_bf16
from service.repository.spec import EncoderSpec

OPENS: Mapping[str, Open] = {"torch": open_torch, "onnx": open_onnx, "openvino": open_openvino}
BACKENDS = ("auto", *OPENS)
RUNS = {  # what auto may take, by device: in the same precision, or their answers would differ
    "cpu": {
        "torch": ("float32", "bfloat16", "float16"),
        "onnx": ("float32", "int8"),
        # In float32 it takes about 20 % longer than onnx with shapes that are new to it, which a
        # race of a few shapes does not show, and served texts are.
        "openvino": ("bfloat16",),
    },
    "cuda": {"torch": ("float32", "bfloat16", "float16"), "onnx": ("float32", "float16")},
}


VERSIONS = {"torch": torch_versions, "onnx": onnx_versions, "openvino": openvino_versions}


class _Found(NamedTuple):
    """What an earlier start found out, or this one: times by backend, reasons of what failed."""

    times: Times
    failed: Mapping[str, str]


def open_backend(config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> Opened:
    """Raises BackendNotAvailable, TooInaccurate, and what the backend raises as it loads."""
    if config.backend not in BACKENDS:
        raise ValueError(f"backend {config.backend!r} is not one of {', '.join(BACKENDS)}")
    try:
        return _open(config, spec, place, say)
    except TooInaccurate as error:
        if config.dtype != "auto":
            raise
        say(f"{error}; dtype auto falls back to float32")
    return _open(dataclasses.replace(config, dtype="float32"), spec, place, say)


def _open(config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> Opened:
    if config.backend != "auto":
        backend, facts = open_guarded(OPENS[config.backend], config, spec, place, say)
        return Opened(backend, {**facts, "backend_chosen": "by BATCHER_BACKEND"})
    config = dataclasses.replace(config, dtype=_precision(config.dtype, place))
    names = candidates(config.dtype, place.device)
    if len(names) == 1:
        backend, facts = open_guarded(OPENS[names[0]], config, spec, place, say)
        return Opened(backend, {**facts, "backend_chosen": "the only one there is"})
    return _fastest(names, config, spec, place, say)


def candidates(dtype: str, device: str) -> list[str]:
    """The installed backends that run this precision. Raises BackendNotAvailable if none does."""
    able = [name for name, dtypes in RUNS[device.partition(":")[0]].items() if dtype in dtypes]
    there = [name for name in able if not missing(name)]
    if not there:
        packages = " or ".join(f"pip install 'batcher[{name}]'" for name in able)
        raise BackendNotAvailable(
            f"dtype {dtype} on {device}: "
            + (f"no backend that runs it is installed: {packages}" if able else "no backend has it")
        )
    return there


def _precision(wanted: str, place: Place) -> str:
    if wanted == "int8":
        return wanted
    device = torch.device(place.device)
    dtype = choose_dtype(wanted, device.type, has_native_bf16(device))
    return str(dtype).removeprefix("torch.")


def _fastest(
    names: list[str], config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say
) -> Opened:
    key = {
        "format": FORMAT,
        "content": content_of(spec.folder),
        "task": spec.task,
        "device": place.device_name,
        "threads": place.threads,
        "dtype": config.dtype,
        "compile": config.compile,
        "min_cosine": config.min_cosine,
        "max_batch_size": config.max_batch_size,
        "backends": {name: _versions(name) for name in names},
    }
    opening = _Opening(config, spec, place, say)
    # Replicas that start together would race beside each other: one does, and leaves a note.
    with by_one(config.cache_dir, "backends", key, say):
        found, source = _remembered(config.cache_dir, key, say), "remembered"
        if found is None:
            found, source = _found_out(names, config.max_batch_size, spec, opening), "measured"
            note = {"times": found.times, "failed": found.failed}
            if opening.lasting and (why := save_note(config.cache_dir, "backends", key, note)):
                say(why)
    table = _table(found.times)
    # Elsewhere a backend queues one batch behind another, which two of them could not.
    plan = choose(found.times, may_pair=place.device == "cpu")
    names = list(dict.fromkeys(plan))
    say(f"backend {' and '.join(names)} ({source}; {_said(table)})")
    kept = opening.only(names)
    facts: dict[str, object] = {"backend_chosen": source, "backend_ms": table}
    for each in kept:
        facts |= each.facts
    if failed := {**found.failed, **opening.failed}:
        facts["backend_failed"] = failed
    backends = [each.backend for each in kept]
    return Opened(PairedBackend(*backends) if len(backends) == 2 else backends[0], facts)


def _found_out(names: list[str], size: int, spec: EncoderSpec, opening: _Opening) -> _Found:
    there = opening.all(names)
    while True:
        many = len(there) > 1
        opening.say(f"measuring {' and '.join(there)} …" if many else "nothing to compare with")
        try:
            return _Found(race(there, spec, size), dict(opening.failed))
        except Stumbled as stumbled:
            opening.leave_out(stumbled.name, stumbled.error)
            del there[stumbled.name]


class _Opening:
    """Backends as they are asked for, each opened once. What fails is said and remembered, but for
    torch: without that there is nothing to fall back to."""

    def __init__(self, config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> None:
        self._arguments = (config, spec, place, say)
        self.say = say
        self.opened: dict[str, Opened] = {}
        self.failed: dict[str, str] = {}
        self.lasting = True  # what failed would fail at the next start, too

    def all(self, names: Sequence[str]) -> dict[str, Backend]:
        """Those that can be had."""
        for name in names:
            if name not in self.opened and name not in self.failed:
                self._open(name)
        return {name: self.opened[name].backend for name in names if name in self.opened}

    def only(self, names: Sequence[str]) -> list[Opened]:
        """Those of them that can be had, else torch; the others are closed."""
        kept = self.all(names) or self.all(["torch"])
        for other, each in self.opened.items():
            if other not in kept:
                each.backend.close()
        return [self.opened[name] for name in kept]

    def _open(self, name: str) -> None:
        try:
            opened = open_guarded(OPENS[name], *self._arguments)
            opened.backend.forward([np.zeros(2, dtype=np.int32)])
            self.opened[name] = opened
        except Exception as error:  # each library has its own; the model may run without this one
            self.leave_out(name, error)

    def leave_out(self, name: str, error: Exception) -> None:
        """Raises the error of torch."""
        if name == "torch":
            raise error
        of_ours = isinstance(error, BackendNotAvailable | TooInaccurate)
        self.failed[name] = str(error) if of_ours else one_line(error)
        self.lasting = self.lasting and of_ours
        self.say(f"backend {name} is left out: {self.failed[name]}")


def _remembered(cache_dir: str, key: Mapping[str, object], say: Say) -> _Found | None:
    note, why = load_note(cache_dir, "backends", key)
    try:
        if note is not None:
            return _Found(from_note(note["times"]), dict(note["failed"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"what was measured of the backends is of no use: {one_line(error)}"
    if why:
        say(f"{why}; measuring again …")
    return None


def _versions(name: str) -> str:
    """Without opening it: they are what a remembered choice is known by."""
    try:
        return VERSIONS[name]()
    except Exception as error:  # installed, and yet it does not load; opening it says so
        return one_line(error)


def _said(table: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{traffic}: {', '.join(f'{name} {ms:g} ms' for name, ms in each.items())}"
        for traffic, each in table.items()
    )


def _table(times: Times) -> dict[str, dict[str, float]]:
    """Milliseconds by traffic and backend, for people."""
    table: dict[str, dict[str, float]] = {}
    for name, each in times.items():
        for traffic, seconds in each.items():
            table.setdefault(traffic, {})[name] = round(seconds * 1e3, 2)
    return table
