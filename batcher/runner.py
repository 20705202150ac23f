"""What the engine asks of a model (Runner: three methods) and of the place it lives in (Host)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from batcher.errors import BatcherError, OutOfMemory, RunnerFailed
from batcher.request import Payload

_log = logging.getLogger(__name__)


class Runner(Protocol):
    """Turns the payloads of one batch into results. Lives in one thread; knows no queue."""

    def warm_up(self) -> Mapping[str, object]:
        """Loads and exercises the model; called once, before anything else.

        Returns plain facts about what was loaded (model, device, dtype, dimension …) for people
        to read. May raise anything: the text is the reason why the worker did not start.

        The fact `profile`, if it is there, is what scheduling starts from: a list of [size, tokens,
        seconds] for batches of a few sizes and lengths. Without it, it learns as it goes. The fact
        `padding_free`: True says that a batch takes what its useful tokens take, however long the
        longest is; texts of all lengths then share batches.
        """

    def run(self, payloads: Sequence[Payload]) -> Sequence[Any]:
        """One result per payload, in order. A result that is an Exception fails its own request.

        May raise anything: the batch runs again in halves, so that only the culprit fails. A
        MemoryError says that the batch was too large for the device: later ones are kept smaller.
        SystemExit says that the process is of no more use: another one takes over.

        A runner whose facts change as it runs has those that did in `news`, each time in a new
        mapping; the next answer takes it along.
        """

    def close(self) -> None:
        """Gives back what warm_up took. Called once, last."""


class Launcher(Runner, Protocol):
    """A runner on a device that works while its process goes on. In a worker process, its batches
    are launched and not run; to have `launch` is to be one. None in its place: it is not, here."""

    def launch(self, payloads: Sequence[Payload]) -> Callable[[], Sequence[Any]]:
        """Has one batch queued on the device and returns at once. Calling what it returns, once,
        waits for its results; they, and what may be raised, are as for `run`.

        Called in one thread and what it returns in another, in order; at most two are under way.
        """


class News:
    """The facts of a runner that have changed since its warm-up, each change once: Runner.run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._told: object = None

    def next(self) -> Mapping[str, object] | None:
        news = getattr(self._runner, "news", None)
        if news is self._told or not isinstance(news, Mapping):
            return None
        self._told = news
        return dict(news)


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
    """The results of one batch, one per payload, the seconds that Runner.run took, and the news."""

    results: Sequence[Any]
    seconds: float
    news: Mapping[str, object] | None = None


class Host(Protocol):
    """Where a runner lives: a worker process, or this one. Used by one batching thread."""

    def start(self) -> Mapping[str, object]:
        """Warms the runner up and returns its facts. May be called again once it is lost.

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
        self._news: News | None = None  # of the runner
        self._sent: Sequence[Payload] = ()

    def start(self) -> Mapping[str, object]:
        try:
            self._runner = self._factory()
            self._news = News(self._runner)
            return dict(self._runner.warm_up())
        except BaseException as error:  # SystemExit too: the thread is the engine's
            raise RunnerFailed(explain(error)) from error

    def send(self, payloads: Sequence[Payload], patience: float) -> None:
        """Whatever `patience` says: a thread that hangs cannot be interrupted."""
        self._sent = payloads

    def receive(self, until: float | None = None) -> Reply:
        payloads = self._sent
        assert self._runner is not None, "run before start: this is a bug"
        assert self._news is not None, "made with the runner"
        started = time.perf_counter()
        try:
            results = one_each(self._runner.run(payloads), len(payloads))
            seconds = time.perf_counter() - started
            news = self._news.next()
        except RunnerFailed:
            raise
        except Exception as error:
            kind = OutOfMemory if is_out_of_memory(error) else RunnerFailed
            raise kind(explain(error)) from error
        except BaseException as error:  # SystemExit too: the thread is the engine's
            raise RunnerFailed(explain(error)) from error
        return Reply(results, seconds, news)

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
