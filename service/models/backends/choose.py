"""Which backend runs the model: the one that BATCHER_BACKEND names, or what is measured fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from service.cache.notes import load_note, one_line, save_note, single_writer
from service.cache.profiles import content_of
from service.errors import how_to_install
from service.models.backends import Backend, BackendNotAvailable, Open, Place, Say
from service.models.backends.accuracy import Opened, TooInaccurate, open_guarded
from service.models.backends.extras import missing
from service.models.backends.onnx.export import torch_versions
from service.models.backends.onnx.openvino import open_openvino
from service.models.backends.onnx.openvino import versions as openvino_versions
from service.models.backends.onnx.session import open_onnx
from service.models.backends.onnx.session import versions as onnx_versions
from service.models.backends.paired import PairedBackend
from service.models.backends.race import (
    FORMAT,
    BackendFailed,
    Times,
    benchmark,
    choose,
    from_note,
)
from service.models.backends.reference_answers import Disagrees
from service.models.backends.torch.open import open_torch
from service.models.config import ModelConfig
from service.models.heads import head_of
from service.models.precision import choose_dtype, name_of
from service.repository.spec import EncoderSpec


def _open_reference(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
    from service.models.backends.reference import open_reference  # 6 to 12 s: only where it runs

    return open_reference(config, spec, place, say)


OPENS: Mapping[str, Open] = {
    "torch": open_torch,
    "onnx": open_onnx,
    "openvino": open_openvino,
    "reference": _open_reference,
}
BACKENDS = ("auto", *OPENS)
RUNS = {  # what auto may take, by device; the first of each is what it falls back to
    "cpu": {
        "torch": ("float32", "bfloat16", "float16"),
        "onnx": ("float32", "int8"),
        "openvino": ("float32", "bfloat16"),
    },
    "cuda": {"torch": ("float32", "bfloat16", "float16"), "onnx": ("float32", "float16")},
}

VERSIONS = {"torch": torch_versions, "onnx": onnx_versions, "openvino": openvino_versions}


class _Found(NamedTuple):
    """What an earlier start found out, or this one: times by backend, reasons of what failed."""

    times: Times
    failed: Mapping[str, str]


def open_backend(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> Opened:
    """Raises BackendNotAvailable, TooInaccurate, and what the backend raises as it loads."""
    if config.backend not in BACKENDS:
        raise ValueError(f"backend {config.backend!r} is not one of {', '.join(BACKENDS)}")
    opener, able = _Opener(config, spec, place, say), head_of(spec).backends
    if config.backend not in ("auto", "reference", *(able if spec.is_plain else ())):
        what = f"task {spec.task}"
        if not spec.is_plain:
            what = "this model: only the reference library does"
        raise BackendNotAvailable(
            f"backend {config.backend} does not run {what}; set BATCHER_BACKEND=auto"
            + (f", or {' or '.join(sorted(able))}" if spec.is_plain else "")
        )
    if config.backend != "auto":
        backend, facts = opener.open(config.backend, config.dtype)
        return Opened(backend, {**facts, "backend_chosen": "by BATCHER_BACKEND"})
    if not spec.is_plain:
        return opener.reference("no other backend can run this model")
    entrants = candidates(config.dtype, place, able)
    if len(entrants) == 1:
        [(name, dtype)] = entrants.items()
        try:
            backend, facts = opener.open(name, dtype)
        except Disagrees as error:
            opener.skip(name, error)
            return opener.reference("no other backend gives its answers")
        return Opened(backend, {**facts, "backend_chosen": "the only candidate"})
    return _fastest(entrants, opener)


def candidates(
    dtype: str, place: Place, able_to: Collection[str] = frozenset(OPENS)
) -> dict[str, str]:
    """The installed backends, of those that run the task, each with the precision that it runs in:
    the one asked for; for auto the one that it is best in here, which is never int8. Raises
    BackendNotAvailable if there is none."""
    kind = place.device.partition(":")[0]
    half = name_of(choose_dtype("auto", kind, place.native_bf16))
    able = {name: dtype for name, dtypes in RUNS[kind].items() if dtype in dtypes}
    if dtype == "auto":
        able = {name: half for name, dtypes in RUNS[kind].items() if half in dtypes}
        if kind == "cpu":  # each has float32 there, and what has no half precision may be faster
            able = {name: able.get(name, dtypes[0]) for name, dtypes in RUNS[kind].items()}
    able = {name: each for name, each in able.items() if name in able_to}
    there = {name: each for name, each in able.items() if not missing(name)}
    if not there:
        why = f"no backend that runs it is installed: {how_to_install(*able)}"
        raise BackendNotAvailable(
            f"dtype {dtype} on {place.device}: {why if able else 'no backend has it'}"
        )
    return there


def _fastest(entrants: Mapping[str, str], opener: _Opener) -> Opened:
    config, spec, place, say = opener.config, opener.spec, opener.place, opener.say
    key = {
        "format": FORMAT,
        "content": content_of(spec.folder),
        "task": spec.task,
        "pooling": spec.pooling,
        "device": place.device_name,
        "threads": place.threads,
        "dtypes": entrants,
        "compile": config.compile,
        "min_cosine": config.min_cosine,
        "max_batch_size": config.max_batch_size,
        "backends": {name: _versions(name) for name in entrants},
    }
    # Replicas that start together would race beside each other: one does, and leaves a note.
    with single_writer(config.cache_dir, "backends", key, say):
        found, source = _remembered(config.cache_dir, key, say), "remembered"
        if found is None:
            found, source = _measure(entrants, opener), "measured"
            note = {"times": found.times, "failed": found.failed}
            if opener.lasting and (why := save_note(config.cache_dir, "backends", key, note)):
                say(why)
    if not found.times:
        return opener.reference("no other backend gives its answers", found.failed)
    table = _table(found.times)
    # Elsewhere a backend queues one batch behind another, which two of them could not. And two of
    # a pair are of one precision, or the answer to a text would depend on its company.
    may_pair = place.device == "cpu" and len({entrants[name] for name in found.times}) == 1
    names = list(dict.fromkeys(choose(found.times, may_pair=may_pair)))
    opened = opener.all({name: entrants[name] for name in names})
    if len({each.dtype for each in opened.values()}) > 1:  # one of them fell back to float32
        names = list(dict.fromkeys(choose(found.times, may_pair=False)))
    say(f"backend {' and '.join(names)} ({source}; {_described(table)})")
    kept = opener.only({name: entrants[name] for name in names})
    facts: dict[str, object] = {"backend_chosen": source, "backend_ms": table}
    for each in kept:
        facts |= each.facts
    if failed := {**found.failed, **opener.failed}:
        facts["backend_failed"] = failed
    backends = [each.backend for each in kept]
    return Opened(PairedBackend(*backends) if len(backends) == 2 else backends[0], facts)


def _measure(entrants: Mapping[str, str], opener: _Opener) -> _Found:
    there = opener.all(entrants)
    while there:
        many = len(there) > 1
        named = " and ".join(f"{name} in {each.dtype}" for name, each in there.items())
        opener.say(f"measuring {named} …" if many else "nothing to compare with")
        try:
            size = opener.config.max_batch_size
            return _Found(benchmark(there, opener.spec, size), dict(opener.failed))
        except BackendFailed as failed:
            opener.skip(failed.name, failed.error)
            del there[failed.name]
    return _Found({}, dict(opener.failed))


class _Opener:
    """Backends as they are asked for, each opened once. What fails is logged and remembered, but
    for what torch fails at: others would, too."""

    def __init__(self, config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> None:
        self.config, self.spec, self.place, self.say = config, spec, place, say
        self.opened: dict[str, Opened] = {}
        self.failed: dict[str, str] = {}
        self.lasting = True  # what failed would fail at the next start, too

    def open(self, name: str, dtype: str) -> Opened:
        """In float32 where no dtype was asked for and this one moves the answers too far."""
        config = dataclasses.replace(self.config, dtype=dtype)
        try:
            return open_guarded(OPENS[name], config, self.spec, self.place, self.say)
        except TooInaccurate as error:
            if self.config.dtype != "auto":
                raise
            self.say(f"{error}; dtype auto falls back to float32")
        config = dataclasses.replace(self.config, dtype="float32")
        return open_guarded(OPENS[name], config, self.spec, self.place, self.say)

    def reference(self, why: str, failed: Mapping[str, str] | None = None) -> Opened:
        """The reference library itself. `why` none of the others."""
        self.say(f"using the reference library: {why}")
        backend, facts = self.open("reference", self.config.dtype)
        about: dict[str, object] = {**facts, "backend_chosen": why}
        if skipped := {**(failed or {}), **self.failed}:
            about["backend_failed"] = skipped
        return Opened(backend, about)

    def all(self, entrants: Mapping[str, str]) -> dict[str, Backend]:
        """Those that can be had."""
        for name, dtype in entrants.items():
            if name not in self.opened and name not in self.failed:
                self._try(name, dtype)
        return {name: self.opened[name].backend for name in entrants if name in self.opened}

    def only(self, entrants: Mapping[str, str]) -> list[Opened]:
        """Those of them that can be had, else torch; the others are closed."""
        kept = self.all(entrants) or self.all(_torch_of(self.config.dtype, self.place))
        for other, each in self.opened.items():
            if other not in kept:
                each.backend.close()
        return [self.opened[name] for name in kept]

    def _try(self, name: str, dtype: str) -> None:
        try:
            opened = self.open(name, dtype)
            opened.backend.forward([np.zeros(2, dtype=np.int32)])
            self.opened[name] = opened
        except Exception as error:  # each library has its own; the model may run without this one
            self.skip(name, error)

    def skip(self, name: str, error: Exception) -> None:
        """Raises the error of torch, unless the reference is to run instead."""
        if name == "torch" and not isinstance(error, Disagrees):
            raise error
        of_ours = isinstance(error, BackendNotAvailable | TooInaccurate | Disagrees)
        self.failed[name] = str(error) if of_ours else one_line(error)
        self.lasting = self.lasting and of_ours
        self.say(f"skipping backend {name}: {self.failed[name]}")


def _torch_of(dtype: str, place: Place) -> dict[str, str]:
    return {"torch": candidates(dtype, place)["torch"]}


def _remembered(cache_dir: str, key: Mapping[str, object], say: Say) -> _Found | None:
    note, why = load_note(cache_dir, "backends", key)
    try:
        if note is not None:
            return _Found(from_note(note["times"]), dict(note["failed"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"the saved times of the backends cannot be used: {one_line(error)}"
    if why:
        say(f"{why}; measuring again …")
    return None


def _versions(name: str) -> str:
    """Without opening it: they are what a remembered choice is known by."""
    try:
        return VERSIONS[name]()
    except Exception as error:  # installed, and yet it does not load; opening it says so
        return one_line(error)


def _described(table: Mapping[str, Mapping[str, float]]) -> str:
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
