"""ProcessHost: the parent's side of a worker, a process of its own for one runner.

The two share one socket pair: no lock, no queue, no memory. End of file on it means that the peer
has exited. The worker's standard output and error come back over a pipe into the service's log,
under the worker's name.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from batcher.clock import Clock, MonotonicClock
from batcher.errors import OutOfMemory, RunnerFailed, WorkerLost
from batcher.failures import explain, no_answer_within, printable
from batcher.request import Payload
from batcher.runner import RunnerFactory, RunnerInfo
from batcher.workers.child import main
from batcher.workers.lifetime import describe_exit, exit_descriptor
from batcher.workers.output import ErrorLines
from batcher.workers.pipe import BatchFailed, NotAMessage, Pipe, Ready, Reply, Run, pack

_STOP_TIMEOUT = 5.0  # seconds that Runner.close may take
_PIPE_BYTES = 65536  # what a pipe holds
_TAIL_LINES = 5  # of its output, which go into the error when a worker dies
# Seconds that a start may take, or this many times what the first one took, if that is longer.
_START_TIMEOUT, _TIMES_FIRST = 60.0, 10.0

# Whenever multiprocessing starts a process it reaps all that have ended, and of two threads that
# reap the same one the second gets no exit code: so starts and joins take turns.
_reaping = threading.Lock()


class ProcessHost:
    """Starts the worker, exchanges messages with it, and reports at once when it has died.

    `on_death` is called from the thread that reads the worker's output, with a short reason such
    as "signal 9" or "hang", whether or not a batch was running: after `death_reason` is set, and
    before `receive` raises WorkerLost.
    """

    pipelines = True

    def __init__(
        self,
        factory: RunnerFactory,
        name: str,
        on_death: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._factory = factory
        self._on_death = on_death
        self._log = logging.getLogger(f"batcher.{name}")
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._output: threading.Thread | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._number = 0
        # Number, size and hang_timeout of the batches that are not answered yet, oldest first.
        self._sent: deque[tuple[int, int, float]] = deque()
        self.death_reason: str | None = None
        self._stopping = False
        self._killed = False
        self._kill_reason = ""  # why we killed it ourselves
        self._clock = clock or MonotonicClock()
        self._start_seconds: float | None = None  # of the first start that went well
        self._starting = threading.Lock()  # orders kill() and the start of the process

    def start(self) -> RunnerInfo:
        self._reap()
        self._tail.clear()
        self.death_reason, self._kill_reason = None, ""
        started = self._clock.now()
        try:
            self._spawn()
        except WorkerLost:
            raise
        except Exception as error:  # a factory that does not pickle, no free file descriptor …
            raise RunnerFailed(f"{self.name} cannot be started: {explain(error)}") from error
        allowed = math.inf  # the first one may download a model
        if self._start_seconds is not None:
            allowed = max(_START_TIMEOUT, _TIMES_FIRST * self._start_seconds)
        message = self._receive(0, allowed)
        if isinstance(message, BatchFailed):
            raise RunnerFailed(message.reason)
        if not isinstance(message, Ready):
            raise self._garbage(f"{type(message).__name__} before it was ready")
        self._start_seconds = self._start_seconds or self._clock.now() - started
        return message.info

    def send(self, payloads: Sequence[Payload], hang_timeout: float) -> None:
        if self._pipe is None:
            raise WorkerLost(f"{self.name} is not running")
        try:
            message = pack(self._number + 1, Run(payloads))
        except Exception as error:  # a payload of the user's own that does not pickle
            raise RunnerFailed(
                f"the batch cannot be sent to the worker: {explain(error)}"
            ) from error
        self._number += 1
        self._sent.append((self._number, len(payloads), hang_timeout))
        # If it has died, receive raises that, after the answers that it had sent before.
        with contextlib.suppress(OSError):
            try:  # sending blocks while the pipe is full, perhaps until the batch before has run
                self._pipe.allow(max(timeout for _, _, timeout in self._sent))
                self._pipe.send(message)
            except BlockingIOError:
                self._end("hang")

    def receive(self, until: float | None = None) -> Reply | None:
        number, size, hang_timeout = self._sent[0]
        if until is not None and not self._is_there(until):
            return None
        try:
            reply = self._receive(number, hang_timeout)
        finally:  # it has been answered, or the worker has died
            if self._sent:
                self._sent.popleft()
        if isinstance(reply, BatchFailed):
            raise (OutOfMemory if reply.out_of_memory else RunnerFailed)(reply.reason)
        if not isinstance(reply, Reply) or len(reply.results) != size:
            raise self._garbage(f"no answer to {size} inputs")
        return reply

    def _is_there(self, until: float) -> bool:
        """Is there an answer, or end of file, by then?"""
        assert self._pipe is not None
        try:
            return self._pipe.is_there(until - self._clock.now())
        except OSError:
            return True  # receiving raises it

    def stop(self) -> None:
        self._stopping = True
        if self._pipe is not None:
            self._pipe.shut()  # end of file: the worker finishes and leaves
        if self._output is not None:
            self._output.join(_STOP_TIMEOUT)
        self._reap()

    def kill(self) -> None:
        with self._starting:
            self._killed = True
            process = self._process
        if process is not None:
            process.kill()

    def discard(self, why: str) -> None:
        self._end(why)
        self._bury()

    def _end(self, why: str) -> None:
        self._kill_reason = why
        if (process := self._process) is not None:
            process.kill()
            if self._pipe is not None:
                self._pipe.shut()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = socket.socketpair()
        output, their_output = context.Pipe(duplex=False)
        try:
            process = context.Process(
                target=main,
                args=(self._factory, theirs, their_output),
                name=self.name,
                daemon=True,
            )
            pipe = Pipe(ours)
            with self._starting:
                if self._killed:
                    raise WorkerLost(f"{self.name} was stopped before it started")
                with _reaping:
                    process.start()
                self._process, self._pipe = process, pipe
        except BaseException:
            ours.close()
            output.close()
            raise
        finally:
            theirs.close()
            their_output.close()
        self._output = threading.Thread(
            target=self._read_output, args=(output, process, pipe), name=f"{self.name}-output"
        )
        self._output.start()

    def _receive(self, number: int, allowed: float) -> object:
        """The answer to batch `number`; one to an earlier batch comes too late and is dropped. A
        worker that is silent for the seconds `allowed` hangs, and is killed."""
        assert self._pipe is not None
        while True:
            try:
                self._pipe.allow(allowed)
                answered, data = self._pipe.receive()
            except BlockingIOError:
                self._end("hang")
                raise self._bury() from None
            except (EOFError, OSError):
                raise self._bury() from None
            except NotAMessage as error:
                raise self._garbage(f"a malformed message: {error}") from None
            except MemoryError:
                raise self._garbage("an impossible length") from None
            if answered > number:
                raise self._garbage("an answer to a batch that was never sent to it")
            if answered == number:
                break
            self._log.warning("dropping a late answer to an earlier batch")
        try:
            return pickle.loads(data)
        except (pickle.UnpicklingError, EOFError):
            raise self._garbage("a message that is cut short") from None
        except Exception as error:  # a result of the user's own that only the worker understands
            raise RunnerFailed(f"the result cannot be read: {explain(error)}") from error

    def _garbage(self, what: str) -> WorkerLost:
        """Kills the worker: after a malformed message nothing in its channel can be trusted."""
        self._log.error("%s sent %s; killing it", self.name, what)
        self._end("garbage")
        return self._bury()

    def _bury(self) -> WorkerLost:
        """Releases everything of a dead worker; returns the error that says what it died of."""
        if self._output is not None:
            self._output.join(_STOP_TIMEOUT)  # it ends when the worker does
        is_hung = self._kill_reason == "hang" and self._sent  # and not in its start
        last_words = [no_answer_within(self._sent[0][2])] if is_hung else []
        self._reap()
        text = "; ".join((*last_words, *self._tail))
        reason = f"{self.name} died ({self.death_reason})"
        return WorkerLost(f"{reason}: {text}" if text else reason)

    def _reap(self) -> None:
        """Leaves no process, thread or descriptor behind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # no effect on one that has ended
        if self._output is not None:
            self._output.join()
            self._output = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._sent.clear()

    def _read_output(self, output: Connection, process: BaseProcess, pipe: Pipe) -> None:
        """Ends with the worker, even if a child of the worker keeps its output open."""
        death = exit_descriptor(process)
        with output:
            rest, ended, errors = b"", False, ErrorLines()
            while not ended and output in (ready := wait([output, death])):
                # After its end, one read of a full pipe brings the rest of its output.
                ended = death in ready
                chunk = os.read(output.fileno(), _PIPE_BYTES)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _PIPE_BYTES:  # a progress bar that never ends its line
                    lines, rest = [*lines, rest], b""
                self._say(lines, errors)
            self._say([rest], errors)
        wait([death])
        with _reaping:
            process.join()
            self.death_reason = self._kill_reason or describe_exit(process.exitcode)
        os.close(death)
        pipe.shut()
        if not self._stopping:
            self._on_death(self.death_reason)

    def _say(self, lines: Sequence[bytes], errors: ErrorLines) -> None:
        for line in lines:
            if text := printable(line.decode(errors="replace")).rstrip():
                self._tail.append(text)
                self._log.log(logging.ERROR if errors.is_error(text) else logging.INFO, "%s", text)

    def __repr__(self) -> str:
        return f"<ProcessHost {self.name}, pid {self._process.pid if self._process else None}>"
