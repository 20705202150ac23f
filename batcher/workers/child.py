"""The worker process: reads batches, runs them and answers, until end of file.

Two threads. `inbox` reads the next batch while one runs, so that the runner never waits for it, and
launches it on the device if the runner is a Launcher. The main thread runs the batches, or waits
for those launched, in order, and answers: a model's `run` is only ever called from one thread.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import pickle
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from batcher.errors import RunnerFailed
from batcher.failures import (
    as_outcome,
    explain,
    is_device_lost,
    is_out_of_memory,
    reason_of,
)
from batcher.runner import Informing, Launcher, Runner, RunnerFactory, RunnerInfo
from batcher.workers.lifetime import die_with_parent
from batcher.workers.pipe import BatchFailed, NotAMessage, Pipe, Ready, Reply

_log = logging.getLogger(__name__)


def main(factory: RunnerFactory, channel: socket.socket, output: Connection) -> None:
    die_with_parent()
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # text streams both
    pipe = Pipe(channel)
    threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()
    try:
        runner = factory()
        info = RunnerInfo.from_facts(runner.warm_up())
        info = replace(info, pid=info.pid or os.getpid())
    except Exception as error:
        if not isinstance(error, RunnerFailed):
            traceback.print_exc()
        pipe.answer(0, BatchFailed(reason_of(error)))
        return
    gc.collect()
    gc.freeze()  # a later collection need not walk over the model
    inbox = _Inbox(pipe, runner)
    inbox.start()
    pipe.answer(0, Ready(info))
    changes = InfoChanges(runner, info)
    ended = 0.0  # when the last run did
    while (begun := inbox.begun.get()) is not None:
        answer = _answer(begun, ended, changes)
        ended = time.perf_counter()
        pipe.answer(begun.number, answer)
    runner.close()


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch that has been read. `finish` runs it, or waits for its launched run."""

    number: int
    size: int
    started: float | None  # None: it starts when finish is called
    finish: Callable[[], Sequence[Any]]


class _Inbox:
    """The thread that reads. It ends at end of file, or with the process."""

    def __init__(self, pipe: Pipe, runner: Runner) -> None:
        self._pipe = pipe
        self._run = runner.run
        self._launch = runner.launch if isinstance(runner, Launcher) else None
        # The batches that have been read, oldest first. None: there will be no more.
        self.begun: queue.SimpleQueue[_Begun | None] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._main, name="inbox", daemon=True).start()

    def _main(self) -> None:
        try:
            with contextlib.suppress(EOFError, OSError, NotAMessage):  # the parent has closed it
                while True:
                    self.begun.put(self._begin(*self._pipe.receive()))
        finally:  # whatever it was, nothing more will be read
            self.begun.put(None)

    def _begin(self, number: int, data: memoryview) -> _Begun:
        try:
            payloads = pickle.loads(data).payloads
        except BaseException as error:  # a payload that only the parent understands
            unread = RunnerFailed(f"the batch cannot be read: {explain(error)}")
            return _Begun(number, 0, None, lambda: _raise(unread))
        run, launch = self._run, self._launch
        if launch is None:
            return _Begun(number, len(payloads), None, lambda: run(payloads))
        started = time.perf_counter()
        try:
            finish = launch(payloads)
        except BaseException as error:  # whatever it is, the main thread answers for it
            failure = error
            return _Begun(number, len(payloads), started, lambda: _raise(failure))
        return _Begun(number, len(payloads), started, finish)


def _raise(error: BaseException) -> Sequence[Any]:
    raise error


def _answer(begun: _Begun, ended: float, changes: InfoChanges) -> Reply | BatchFailed:
    """`ended`: when the device was last free."""
    started = time.perf_counter() if begun.started is None else max(begun.started, ended)
    try:
        results = begun.finish()
        seconds = time.perf_counter() - started
        listed = one_each(results, begun.size)
        info = changes.next()
    except Exception as error:
        traceback.print_exc()
        no_memory = is_out_of_memory(error)
        if not no_memory and is_device_lost(error):
            raise SystemExit("the device has failed") from None
        return BatchFailed(reason_of(error), no_memory)
    if not hasattr(results, "dtype"):  # an array crosses faster whole than row by row
        # An exception of the model's own may pickle and yet not unpickle: it crosses as its text.
        results = [as_outcome(result) or result for result in listed]
    return Reply(results, seconds, info)


def one_each(results: Sequence[Any], expected: int) -> list[Any]:
    """The results as a list. Raises RunnerFailed unless it is a sequence of one per payload."""
    # A mapping would pass for a list of its keys, a string for one of its letters.
    if isinstance(results, Mapping | str | bytes) or not hasattr(results, "__getitem__"):
        raise RunnerFailed(f"the runner returned {type(results).__name__}, no sequence of results")
    listed = list(results)
    if len(listed) != expected:
        raise RunnerFailed(f"the runner returned {len(listed)} results for {expected} inputs")
    return listed


class InfoChanges:
    """The info of a runner that has been warmed up, kept up to date."""

    def __init__(self, runner: Runner, info: RunnerInfo) -> None:
        # Asked once: such an isinstance takes 10 us before Python 3.12.
        self._ask = runner.changed_facts if isinstance(runner, Informing) else None
        self._info = info
        self._known: Mapping[str, object] | None = None

    def next(self) -> RunnerInfo | None:
        """The whole info, if it has changed since this was last asked."""
        if self._ask is None:
            return None
        try:
            if (facts := self._ask()) is self._known:
                return None
            self._known = facts
            self._info = self._info.updated(facts or {})
        except Exception as error:  # what the batch returned is good all the same
            _log.warning("ignoring changed facts of the runner: %s", error)
            return None
        return self._info


def _exit_with_parent() -> None:
    """A killed parent leaves no orphan, whatever the system. Ends with the process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
