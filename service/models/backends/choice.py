"""Which backend runs the model: the one that BATCHER_BACKEND names, or what is measured fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from service.cached import load_note, one_line, save_note
from service.models import RunnerConfig
from service.models.backends import Backend, BackendNotAvailable, Open, Place, Say
from service.models.backends.export import torch_versions
from service.models.backends.guarded import Opened, TooInaccurate, open_guarded
from service.models.backends.mix import Measured, Plan, choose
from service.models.backends.mixed import MixedBackend
from service.models.backends.onnx_runtime import open_onnx
from service.models.backends.onnx_runtime import versions as onnx_versions
from service.models.backends.openvino_cpu import open_openvino
from service.models.backends.openvino_cpu import versions as openvino_versions
from service.models.backends.packages import missing
from service.models.backends.racing import as_note, from_note, race
from service.models.backends.torch_choice import open_torch
from service.models.devices import choose_dtype, has_native_bf16
from service.models.spec import EncoderSpec
from service.profile import content_of

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

    measured: Mapping[str, Measured]
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
        "content": content_of(spec.folder),
        "device": place.device_name,
        "threads": place.threads,
        "dtype": config.dtype,
        "compile": config.compile,
        "min_cosine": config.min_cosine,
        "backends": {name: _versions(name) for name in names},
    }
    opening = _Opening(config, spec, place, say)
    found, source = _remembered(config.cache_dir, key, say), "remembered"
    if found is None:
        source = "measured"
        there = opening.all(names)
        say(f"measuring {' and '.join(there)} …" if len(there) > 1 else "nothing to compare with")
        found = _Found(race(there, spec), dict(opening.failed))
        note = {"measured": as_note(found.measured), "failed": found.failed}
        if opening.lasting and (why := save_note(config.cache_dir, "backends", key, note)):
            say(why)
    # Elsewhere a backend queues one batch behind another, which two of them could not.
    plan = choose(found.measured, may_mix=place.device == "cpu")
    say(_said(plan, found, source))
    there = opening.all(plan.backends) or opening.all(["torch"])
    opening.close_all_but(there)
    parts = [opening.opened[name] for name in there]
    facts: dict[str, object] = {"backend_chosen": source, "backend_ms": _table(found.measured)}
    for part in parts:
        facts |= part.facts
    if failed := {**found.failed, **opening.failed}:
        facts["backend_failed"] = failed
    alone = len(parts) == 1
    return Opened(parts[0].backend if alone else MixedBackend(there, found.measured), facts)


class _Opening:
    """Backends as they are asked for, each opened once. What fails is said and remembered, but for
    torch: without that there is nothing to fall back to."""

    def __init__(self, config: RunnerConfig, spec: EncoderSpec, place: Place, say: Say) -> None:
        self._arguments = (config, spec, place, say)
        self._say = say
        self.opened: dict[str, Opened] = {}
        self.failed: dict[str, str] = {}
        self.lasting = True  # what failed would fail at the next start, too

    def all(self, names: Sequence[str]) -> dict[str, Backend]:
        """Those that can be had."""
        for name in names:
            if name not in self.opened and name not in self.failed:
                self._open(name)
        return {name: self.opened[name].backend for name in names if name in self.opened}

    def close_all_but(self, names: Collection[str]) -> None:
        for name, each in self.opened.items():
            if name not in names:
                each.backend.close()

    def _open(self, name: str) -> None:
        try:
            opened = open_guarded(OPENS[name], *self._arguments)
            opened.backend.forward([np.zeros(2, dtype=np.int32)])
            self.opened[name] = opened
        except Exception as error:  # each library has its own; the model may run without this one
            if name == "torch":
                raise
            of_ours = isinstance(error, BackendNotAvailable | TooInaccurate)
            self.failed[name] = str(error) if of_ours else one_line(error)
            self.lasting = self.lasting and of_ours
            self._say(f"backend {name} is left out: {self.failed[name]}")


def _remembered(cache_dir: str, key: Mapping[str, object], say: Say) -> _Found | None:
    note, why = load_note(cache_dir, "backends", key)
    try:
        if note is not None:
            return _Found(from_note(note["measured"]), dict(note["failed"]))
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


def _said(plan: Plan, found: _Found, source: str) -> str:
    shortest, *_, longest = _table(found.measured).items()
    times = (
        f"{batch} {', '.join(f'{name} {ms:g} ms' for name, ms in each.items())}"
        for batch, each in (shortest, longest)
    )
    names = " and ".join(plan.backends)
    return f"backend {names} ({source}; inputs x tokens {'; '.join(times)})"


def _table(measured: Mapping[str, Measured]) -> dict[str, dict[str, float]]:
    """Milliseconds by batch and backend, for people; the shortest batch first."""
    table: dict[str, dict[str, float]] = {}
    for name, each in measured.items():
        for batch, seconds in each.seconds.items():
            mixed = "" if len(set(batch)) == 1 else "up to "
            label = f"{len(batch)} x {mixed}{max(batch)}"
            table.setdefault(label, {})[name] = round(seconds * 1e3, 2)
    return table
