"""Runner: what the engine asks of a model, in three methods; and RunnerInfo, what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

from batcher.request import Payload

ProfilePoint = tuple[int, int, float]
"""Rows of a batch, its tokens as run (padding included), and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What a runner reports of what it has loaded. A field at its default was not reported."""

    model: str = ""
    device: str = ""  # of what kind: cpu, or cuda (NVIDIA H200)
    dtype: str = ""  # float32, bfloat16, float16, int8
    backend: str = ""  # what computes the forward pass: torch, onnx, openvino
    backend_chosen: str = ""  # why that one
    backend_failed: Mapping[str, str] = field(default_factory=dict)  # the reason, by name
    compile: str = ""  # on, or the reason why the model is not compiled
    dimension: int | None = None  # of the vectors
    profile: tuple[ProfilePoint, ...] = ()  # what scheduling starts from
    profile_source: str = ""  # measured (just now), cache, analytic
    padding_free: bool = False  # a batch takes what its useful tokens take, whatever the longest is
    placed_on: str = ""  # the device that placement chose: cuda:1
    cores: str = ""  # the only ones that it runs on: 0-3,8
    gpu_uuid: str = ""
    memory_bytes: int | None = None  # the most that it has taken so far
    pid: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)  # anything else, for people

    @classmethod
    def from_facts(cls, facts: RunnerInfo | Mapping[str, object]) -> RunnerInfo:
        """What Runner.warm_up returned. Raises TypeError for what is no mapping, or a field of the
        wrong type."""
        if isinstance(facts, RunnerInfo):
            return facts
        if not isinstance(facts, Mapping):
            raise TypeError(f"warm_up returned {type(facts).__name__}, no mapping of facts")
        return cls().updated(facts)

    def updated(self, facts: Mapping[str, object]) -> RunnerInfo:
        """With these facts new or changed; None resets a field. Raises TypeError."""
        known = {name: _typed(name, facts[name]) for name in _FIELD_TYPES.keys() & facts.keys()}
        others = {name: fact for name, fact in facts.items() if name not in known}
        return replace(self, details={**self.details, **others}, **known)

    def facts(self) -> dict[str, object]:
        """The fields that were reported and the details, in one flat mapping: for /stats."""
        reported = {
            name: value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) != default
        }
        return {**reported, **self.details}


def _profile(points: Any) -> tuple[ProfilePoint, ...]:
    return tuple((int(size), int(tokens), float(seconds)) for size, tokens, seconds in points)


def _reasons(failed: Any) -> dict[str, str]:
    return {str(name): str(reason) for name, reason in failed.items()}


# The type that a fact must have, in words and as a class, and what turns it into the field.
_FieldType = tuple[str, type | tuple[type, ...], Callable[[Any], object]]
_TEXT: _FieldType = "a str", str, str
_WHOLE: _FieldType = "an int", Integral, int
_FIELD_TYPES: Mapping[str, _FieldType] = {
    **dict.fromkeys(("model", "device", "dtype", "backend", "backend_chosen", "compile"), _TEXT),
    **dict.fromkeys(("profile_source", "placed_on", "cores", "gpu_uuid"), _TEXT),
    **dict.fromkeys(("dimension", "memory_bytes", "pid"), _WHOLE),
    "backend_failed": ("a mapping of names to reasons", Mapping, _reasons),
    "profile": ("a list of [size, tokens, seconds]", (list, tuple), _profile),
    "padding_free": ("a bool", bool, bool),
}
_DEFAULTS = {name: getattr(RunnerInfo(), name) for name in _FIELD_TYPES}


def _typed(name: str, fact: object) -> Any:
    """The value of that field. Raises TypeError."""
    if fact is None:
        return _DEFAULTS[name]
    words, kind, convert = _FIELD_TYPES[name]
    wrong = TypeError(f"{name} must be {words}, not {fact!r:.100}")
    if not isinstance(fact, kind):
        raise wrong
    try:
        return convert(fact)
    except (TypeError, ValueError, OverflowError) as error:  # of what it holds
        raise wrong from error


class Runner(Protocol):
    """Turns the payloads of one batch into results. Lives in one thread; knows no queue."""

    def warm_up(self) -> RunnerInfo | Mapping[str, object]:
        """Loads and exercises the model; called once, before anything else.

        Returns what it has loaded, as a RunnerInfo or as a mapping of plain facts: its fields under
        their names, and anything else for people to read. May raise anything: the text is the
        reason why the worker did not start.

        Two fields steer scheduling. `profile`: how long batches of a few sizes and lengths take;
        without it, scheduling learns as it goes. `padding_free`: texts of all lengths then share
        batches.
        """

    def run(self, payloads: Sequence[Payload]) -> Sequence[Any]:
        """One result per payload, in order. A result that is an Exception fails its own request.

        May raise anything: the batch runs again in halves, so that only the culprit fails. A
        MemoryError says that the batch was too large for the device: later ones are kept smaller.
        SystemExit says that the process is of no more use: another one takes over.
        """

    def close(self) -> None:
        """Gives back what warm_up took. Called once, last."""


@runtime_checkable
class Launcher(Protocol):
    """A runner for a device that computes while the process goes on. In a worker process its
    batches are launched and not run. One that finds out in warm_up that it cannot, here, has None
    in place of the method."""

    def launch(self, payloads: Sequence[Payload]) -> Callable[[], Sequence[Any]]:
        """Queues one batch on the device and returns at once. Calling what it returns, once, waits
        for the results; they, and what may be raised, are as for `run`.

        Called in one thread and what it returns in another, in order; at most two are under way.
        """


@runtime_checkable
class Informing(Protocol):
    """A runner whose facts change as it runs."""

    def changed_facts(self) -> Mapping[str, object] | None:
        """Those that have changed since warm_up, each time in a new mapping. None: none have. Asked
        after each batch."""


RunnerFactory = Callable[[], Runner]
"""Makes the runner, inside the worker. Must pickle: a class, a function, a functools.partial."""
