"""What the engine asks of a model (Runner: three methods) and of the place it lives in (Host)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

from batcher.errors import BatcherError, OutOfMemory, RunnerFailed
from batcher.request import Payload

_log = logging.getLogger(__name__)


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
    """A runner whose facts change as it runs. It has `news` from its warm-up on."""

    @property
    def news(self) -> Mapping[str, object] | None:
        """Those that have changed since warm_up, each time in a new mapping. Read after each
        batch."""


class InfoChanges:
    """The info of a runner that has been warmed up, kept up to date with its news."""

    def __init__(self, runner: Runner, info: RunnerInfo) -> None:
        # Asked once: such an isinstance takes 10 us before Python 3.12.
        self._runner = runner if isinstance(runner, Informing) else None
        self._info = info
        self._seen: object = None  # the last news

    def next(self) -> RunnerInfo | None:
        """The whole info, if it has changed since this was last asked."""
        if self._runner is None or (news := self._runner.news) is self._seen:
            return None
        self._seen = news
        if not isinstance(news, Mapping):  # a runner of the user's own has that name for its own
            return None
        try:
            self._info = self._info.updated(news)
        except TypeError as error:  # what the batch returned is good all the same
            _log.warning("a change of the runner's facts is ignored: %s", error)
            return None
        return self._info


RunnerFactory = Callable[[], Runner]
"""Makes the runner, inside the worker. Must pickle: a class, a function, a functools.partial."""


def explain(error: BaseException) -> str:
    """One line that a caller can read: the type and the text of what the model raised."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception of the user's own, whose __str__ raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def one_each(results: Sequence[Any], expected: int) -> list[Any]:
    """The results one by one. Raises RunnerFailed unless there is one per payload, in an order."""
    # A mapping would pass for a list of its keys, a string for one of its letters.
    if isinstance(results, Mapping | str | bytes) or not hasattr(results, "__getitem__"):
        raise RunnerFailed(f"the runner returned {type(results).__name__}, no sequence of results")
    listed = list(results)
    if len(listed) != expected:
        raise RunnerFailed(f"the runner returned {len(listed)} results for {expected} inputs")
    return listed


def as_outcome(result: Any) -> BatcherError | None:
    """The error that a result stands for, if it is one. Raises nothing, whatever it is given."""
    try:
        if isinstance(result, BatcherError):
            return result
        return RunnerFailed(explain(result)) if isinstance(result, Exception) else None
    except Exception as error:  # an object that does not even let itself be looked at
        return RunnerFailed(f"a result that cannot be read: {explain(error)}")


# What torch and the libraries under it say; they have no types for it that this package could name.
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")
_DEVICE_LOST = ("CUDA error", "HIP error")


def is_out_of_memory(error: Exception) -> bool:
    """Would a smaller batch do?"""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def is_device_lost(error: Exception) -> bool:
    """Once CUDA or HIP has said this, whatever the process asks of the device fails too."""
    return isinstance(error, RuntimeError) and str(error).startswith(_DEVICE_LOST)


@dataclass(frozen=True, slots=True)
class Reply:
    """The results of one batch, one per payload, and the seconds that Runner.run took."""

    results: Sequence[Any]
    seconds: float
    info: RunnerInfo | None = None  # of the runner, if it has changed


class Host(Protocol):
    """Where a runner lives: a worker process, or this one. Used by one batching thread."""

    def start(self) -> RunnerInfo:
        """Warms the runner up. May be called again once it is lost.

        Raises RunnerFailed (the runner's own reason) or WorkerLost.
        """

    def send(self, payloads: Sequence[Payload], patience: float) -> None:
        """Hands a batch over. One more may be sent before the first is answered, if `holds_two`.

        Raises RunnerFailed (it cannot be sent, and the host does not have it) or WorkerLost (the
        runner is gone). From the moment that its turn comes, it has `patience` seconds.
        """

    def receive(self, until: float | None = None) -> Reply | None:
        """The answer to the oldest batch that was sent. None: it was not there at `until`, on the
        engine's clock.

        Raises RunnerFailed (the batch failed, the runner lives; OutOfMemory: it was too large) or
        WorkerLost (the runner is gone, or the batch has used up its patience).
        """

    def stop(self) -> None:
        """Ends the runner in an orderly way; at once if it is not in a position to. Idempotent."""

    def kill(self) -> None:
        """Ends it now and for ever, from any thread: a start or run under way raises WorkerLost."""

    def abandon(self, why: str) -> None:
        """Ends this runner, which is of no more use; `lost` will say `why`. From its own thread."""

    @property
    def lost(self) -> str | None:
        """What the runner died of, shortly; None before its first start and while it lives."""

    @property
    def holds_two(self) -> bool:
        """May a batch be sent while another one runs?"""


class InlineHost:
    """The runner in the batching thread itself: for tests, and to embed in another program."""

    def __init__(self, factory: RunnerFactory) -> None:
        self._factory = factory
        self._runner: Runner | None = None
        self._changes: InfoChanges | None = None
        self._sent: Sequence[Payload] = ()

    def start(self) -> RunnerInfo:
        try:
            self._runner = self._factory()
            info = RunnerInfo.from_facts(self._runner.warm_up())
        except BaseException as error:  # SystemExit too: the thread is the engine's
            raise RunnerFailed(explain(error)) from error
        self._changes = InfoChanges(self._runner, info)
        return info

    def send(self, payloads: Sequence[Payload], patience: float) -> None:
        """Whatever `patience` says: a thread that hangs cannot be interrupted."""
        self._sent = payloads

    def receive(self, until: float | None = None) -> Reply:
        payloads = self._sent
        assert self._runner is not None, "run before start: this is a bug"
        assert self._changes is not None, "made with the runner"
        started = time.perf_counter()
        try:
            results = one_each(self._runner.run(payloads), len(payloads))
            seconds = time.perf_counter() - started
            info = self._changes.next()
        except RunnerFailed:
            raise
        except Exception as error:
            kind = OutOfMemory if is_out_of_memory(error) else RunnerFailed
            raise kind(explain(error)) from error
        except BaseException as error:  # SystemExit too: the thread is the engine's
            raise RunnerFailed(explain(error)) from error
        return Reply(results, seconds, info)

    def stop(self) -> None:
        runner, self._runner = self._runner, None
        try:
            if runner is not None:
                runner.close()
        except Exception:  # nothing depends on it any more
            _log.exception("the runner did not close")

    def kill(self) -> None:
        """A thread cannot be killed: the run under way is waited for."""

    def abandon(self, why: str) -> None:
        """It is kept: a new one in the same thread would be no better."""

    @property
    def lost(self) -> None:
        return None

    @property
    def holds_two(self) -> bool:
        return False


def run_on(host: Host, payloads: Sequence[Payload], patience: float) -> Reply:
    """One batch, and nothing else meanwhile. Raises what send and receive do."""
    host.send(payloads, patience)
    reply = host.receive()
    assert reply is not None, "no answer without a deadline: this is a bug"
    return reply
