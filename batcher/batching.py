"""The batching thread: takes a batch, sends it to the host, settles the answer. One per replica."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from batcher.collector import Collector
from batcher.errors import BatcherError, Draining, OutOfMemory, RunnerFailed, WorkerLost
from batcher.failures import as_outcome, explain
from batcher.request import Batch, Payload
from batcher.runner import RunnerInfo
from batcher.supervision.recovery import Step, next_step
from batcher.supervision.restarts import WorkerRestarts
from batcher.workers.host import Host, run_on

_log = logging.getLogger(__name__)


class BatchingThread:
    """Owns the host of one replica: starts it, feeds it batches, restarts it when its runner dies,
    stops it at the end.

    `on_first_start` is called once, with the error if the first start failed. `on_up` is called
    each time the replica has come up. `on_crash` is called if the thread itself fails, which is a
    bug: nothing would be served any more. A replica whose model did not load waits for `may_retry`.
    """

    def __init__(
        self,
        collector: Collector,
        replica: int,
        host: Host,
        *,
        on_first_start: Callable[[BatcherError | None], None],
        on_up: Callable[[], None],
        on_crash: Callable[[BaseException], None],
        may_retry: threading.Event,
    ) -> None:
        self.name = f"batching-{replica}"
        self._collector = collector
        self._replica = replica
        self._host = host
        self._canary: Payload = None
        self._on_first_start = on_first_start
        self._on_up = on_up
        self._on_crash = on_crash
        self._may_retry = may_retry
        self._closing = threading.Event()
        # At the host, oldest first: that one runs. At most two.
        self._sent = deque[Batch]()
        # Taken too, next first. Each is sent only when nothing is at the host.
        self._unsent = deque[Batch]()
        self._restarts = WorkerRestarts()
        self._has_passed_canary = False  # since it came up
        # The engine reports it, and ends, unless another replica comes up.
        self._first_failure: RunnerFailed | None = None
        self._thread = threading.Thread(target=self._main, name=self.name)

    def start(self, canary: Payload = None) -> None:
        """`canary`: what to run when the collector asks for one."""
        self._canary = canary
        self._thread.start()

    def stop(self, now: bool = False) -> None:
        """Tells the thread to end once the collector has finished. `now` kills the host: for a
        start that is no longer wanted, or a batch that hangs."""
        self._closing.set()
        if now:
            self._host.kill()

    def join(self) -> None:
        """Waits until it has ended."""
        if self._thread.ident is not None:  # else it was never started
            self._thread.join()

    def _main(self) -> None:
        try:
            self._start_first()
            while not self._collector.finished and not self._closing.is_set():
                self._serve()
                self._restart()
        except BaseException as error:
            _log.critical("%s has failed; nothing can be served", self.name, exc_info=True)
            for batch in (*self._sent, *self._unsent):
                if self._collector.is_in_flight(batch):
                    self._collector.fail(batch, RunnerFailed(explain(error)))
            self._on_crash(error)
        finally:
            self._host.stop()

    # Batches

    def _serve(self) -> None:
        """Until the replica is down or everything is done."""
        while (batch := self._collector.next_batch(self._replica)) is not None:
            if batch.requests:
                self._unsent.append(batch)
                self._run()
            else:
                self._run_canary(batch)

    def _run(self) -> None:
        """Runs what was taken, the halves of what fails, and what is cut early meanwhile."""
        while self._unsent or self._sent:
            if self._sent:
                self._receive()
            else:
                self._send(self._unsent.popleft())

    def _send(self, batch: Batch) -> None:
        self._sent.append(batch)
        try:
            self._host.send([each.payload for each in batch.requests], batch.hang_timeout)
        except RunnerFailed as error:  # the host does not have it
            self._recover(batch, error)
            self._sent.pop()
        except WorkerLost as error:
            self._lost(error)

    def _receive(self) -> None:
        """The answer to the oldest batch at the host; but first a batch that is cut early."""
        batch = self._sent[0]
        until: float | None = None
        if len(self._sent) == 1 and not self._unsent and self._host.pipelines:
            early = self._collector.next_batch_early(batch)
            if isinstance(early, Batch):
                self._send(early)
                return
            until = early  # then it asks again
        try:
            reply = self._host.receive(until)
        except RunnerFailed as error:
            self._recover(batch, error)
        except WorkerLost as error:
            self._lost(error)
            return
        else:
            if reply is None:
                return
            self._restarts.attempts = 0
            if reply.info is not None:
                self._collector.replica_changed(self._replica, reply.info)
            self._collector.settle(batch, reply.results, reply.seconds)
        self._sent.popleft()

    def _lost(self, error: WorkerLost) -> None:
        """The worker died while the oldest batch ran: a second one had not begun."""
        while len(self._sent) > 1:
            self._unsent.appendleft(self._sent.pop())
        self._recover(self._sent[0], error)
        self._sent.clear()

    def _recover(self, batch: Batch, error: RunnerFailed | WorkerLost) -> None:
        """Ends a batch that failed, or ran on a worker that died."""
        size = batch.size
        match next_step(error, size, self._closing.is_set()):
            case Step.HALVE:
                _log.warning("a batch of %d inputs failed; retrying it in halves: %s", size, error)
                halves = self._collector.halve(batch, isinstance(error, OutOfMemory))
                self._unsent.extendleft(reversed(halves))
            case Step.REQUEUE:
                _log.error(
                    "%s while running %d requests; retrying them on the next worker", error, size
                )
                while self._unsent:  # each goes before the last, and the lost one before all
                    self._collector.requeue(self._unsent.pop(), lost=False)
                if self._collector.requeue(batch, lost=True):
                    self._restarts.poison_found()
            case Step.FAIL:
                is_lost = isinstance(error, WorkerLost)
                why = Draining("the service has shut down", 1.0) if is_lost else error
                self._collector.fail(batch, why)

    def _run_canary(self, batch: Batch) -> None:
        seconds = 0.0
        try:
            reply = run_on(self._host, [self._canary], batch.hang_timeout)
            if reply.info is not None:
                self._collector.replica_changed(self._replica, reply.info)
            failure = as_outcome(reply.results[0])
            if failure is not None:
                raise failure
        except WorkerLost as error:
            _log.error("%s while running a test input", error)
        except BatcherError as error:
            self._host.discard("canary")
            _log.error(
                "replica %d failed a test input; replacing its worker: %s", self._replica, error
            )
        else:
            seconds = reply.seconds
            if self._has_passed_canary:  # it has lived for a while: the cause of its start is over
                self._restarts.attempts = 0
            self._has_passed_canary = True
        finally:
            self._collector.settle(batch, (), seconds)

    # Starts

    def _start_first(self) -> None:
        try:
            info = self._host.start()
        except BatcherError as error:
            if isinstance(error, RunnerFailed):
                self._first_failure = error
            else:
                _log.error("replica %d did not start: %s", self._replica, error)
            self._restarts.first_start_failed()
            self._on_first_start(error)
            self._collector.replica_waits(self._replica, 0.0, str(error), False)
        except BaseException as error:  # a bug; the caller that waits for the start gets it too
            self._on_first_start(RunnerFailed(explain(error)))
            raise
        else:
            self._up(info)
            self._on_first_start(None)

    def _up(self, info: RunnerInfo) -> None:
        self._has_passed_canary = False
        self._collector.replica_up(self._replica, info)
        if self._host.death_reason is not None:  # it has died already, and said so before it was up
            self._collector.replica_down(self._replica, self._host.death_reason)
        self._on_up()

    def _restart(self) -> None:
        why = self._host.death_reason
        while not self._collector.finished and not self._closing.is_set():
            is_broken, delay = self._restarts.is_broken, self._restarts.next_delay()
            if why is not None:
                self._collector.replica_waits(self._replica, delay, why, is_broken)
            number, attempt = self._replica, self._restarts.attempts
            failure, self._first_failure = self._first_failure, None
            if failure is None:
                _log.warning("restarting replica %d in %.1f s, attempt %d", number, delay, attempt)
            elif self._may_retry.wait() and not self._closing.is_set():
                _log.error("replica %d did not start: %s; starting it again", number, failure)
            if self._closing.wait(delay):
                return
            try:
                info = self._host.start()
            except BatcherError as error:
                why = str(error)
                _log.error("replica %d did not start: %s", number, error)
            else:
                self._up(info)
                return
