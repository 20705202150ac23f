"""Host: where a runner lives. InlineHost: in the batching thread itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from batcher.errors import OutOfMemory, RunnerFailed
from batcher.failures import explain, is_out_of_memory
from batcher.request import Payload
from batcher.runner import Runner, RunnerFactory, RunnerInfo
from batcher.workers.child import InfoChanges, one_each
from batcher.workers.pipe import Reply

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Where a runner lives: a worker process, or this one. Used by one batching thread."""

    def start(self) -> RunnerInfo:
        """Warms the runner up. May be called again once it has died.

        Raises RunnerFailed (the runner's own reason) or WorkerLost.
        """

    def send(self, payloads: Sequence[Payload], hang_timeout: float) -> None:
        """Hands a batch over. One more may be sent before the first is answered, if `pipelines`.

        Raises RunnerFailed (it cannot be sent, and the host does not have it) or WorkerLost (the
        runner has died). It may be silent for `hang_timeout` seconds once it is the oldest.
        """

    def receive(self, until: float | None = None) -> Reply | None:
        """The answer to the oldest batch that was sent. None: not there at `until`, on the clock.

        Raises RunnerFailed (the batch failed, the runner lives; OutOfMemory: it was too large) or
        WorkerLost (the runner has died, or was killed because it hung).
        """

    def stop(self) -> None:
        """Closes the runner, or kills it if that takes too long. Idempotent."""

    def kill(self) -> None:
        """Kills it, for good, from any thread: a start or run under way raises WorkerLost."""

    def discard(self, why: str) -> None:
        """Kills a runner that no longer works; `death_reason` will be `why`. A start makes a new
        one."""

    @property
    def death_reason(self) -> str | None:
        """signal 9, hang, …; None before the first start and while the runner lives."""

    @property
    def pipelines(self) -> bool:
        """May a batch be sent while another one runs?"""


class InlineHost:
    """The runner in the batching thread itself: for tests, and to embed in another program."""

    death_reason = None
    pipelines = False

    def __init__(self, factory: RunnerFactory) -> None:
        self._factory = factory
        self._runner: Runner | None = None
        self._changes: InfoChanges | None = None
        self._sent: Sequence[Payload] = ()

    def start(self) -> RunnerInfo:
        try:
            self._runner = self._factory()
            info = RunnerInfo.from_facts(self._runner.warm_up())
        except RunnerFailed:
            raise
        except BaseException as error:  # SystemExit too: the thread is the engine's
            raise RunnerFailed(explain(error)) from error
        self._changes = InfoChanges(self._runner, info)
        return info

    def send(self, payloads: Sequence[Payload], hang_timeout: float) -> None:
        """`hang_timeout` has no effect: a thread that hangs cannot be interrupted."""
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
        except Exception:  # nothing uses it any more
            _log.exception("closing the runner failed")

    def kill(self) -> None:
        """A thread cannot be killed: the run under way ends by itself."""

    def discard(self, why: str) -> None:
        """Keeps it: a new one in the same thread would be no better."""


def run_on(host: Host, payloads: Sequence[Payload], hang_timeout: float) -> Reply:
    """Runs one batch while nothing else is at the host. Raises what send and receive do."""
    host.send(payloads, hang_timeout)
    reply = host.receive()
    assert reply is not None, "no answer without a deadline: this is a bug"
    return reply
