"""The batching thread: next_batch, send, settle, for ever. One per replica, and the owner of it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from batcher.collector import Collector
from batcher.errors import BatcherError, Draining, OutOfMemory, RunnerFailed, WorkerLost
from batcher.request import Batch, Payload
from batcher.runner import Host, Reply, RunnerInfo, as_outcome, explain, run_on
from batcher.supervision.recovery import Step, next_step
from batcher.supervision.restarts import WorkerRestarts

_log = logging.getLogger(__name__)


class BatchingThread:
    """Starts its host, feeds it batches, starts it again when it is lost, stops it at the end.

    `on_tried` is called once, after the first start: with the error, if it failed. `on_up` is
    called each time the replica has come up. `on_crash` is called if the thread itself fails,
    which is a bug: nothing would be served any more.
    """

    def __init__(
        self,
        collector: Collector,
        replica: int,
        host: Host,
        *,
        on_tried: Callable[[BatcherError | None], None],
        on_up: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.name = f"batching-{replica}"
        self._collector = collector
        self._replica = replica
        self._host = host
        self._canary: Payload = None
        self._on_tried = on_tried
        self._on_up = on_up
        self._on_crash = on_crash
        self._closing = threading.Event()
        self._restarts = WorkerRestarts()
        self._has_been_tried = False  # by a canary, in this life
        self._thread = threading.Thread(target=self._main, name=self.name)

    def start(self, canary: Payload = None) -> None:
        """`canary`: what to run when the collector asks for one."""
        self._canary = canary
        self._thread.start()

    def stop(self, now: bool = False) -> None:
        """Tells the thread to end, which it does when the collector has finished.

        `now` kills the host: for a start that is no longer wanted, or a batch that will not come
        back.
        """
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
            self._on_crash(error)
        finally:
            self._host.stop()

    # Batches

    def _serve(self) -> None:
        """Until the replica is down or everything is done."""
        while (batch := self._collector.next_batch(self._replica)) is not None:
            if batch.requests:
                self._run(batch)
            else:
                self._run_canary(batch)

    def _run(self, batch: Batch) -> None:
        """With the parts that it comes to, if it fails, and with each batch that is cut while the
        one before it runs."""
        parts = [batch]  # still to be sent, the next one last
        sent: deque[Batch] = deque()  # not answered yet, oldest first: that one runs
        try:
            while parts or sent:
                self._step(sent, parts)
        except BaseException as error:  # a bug, and the end; but not for these without an answer
            for left in (*sent, *parts):
                if self._collector.is_in_flight(left):
                    self._collector.fail(left, RunnerFailed(explain(error)))
            raise

    def _step(self, sent: deque[Batch], parts: list[Batch]) -> None:
        """Sends a batch, or waits for the answer to the oldest, or until another is due."""
        upcoming = self._upcoming(sent, parts)
        if isinstance(upcoming, Batch):
            sent.append(upcoming)
            try:
                self._host.send(upcoming.payloads, upcoming.hang_timeout)
            except RunnerFailed as error:
                self._recover(-1, error, sent, parts)
            except WorkerLost as error:
                self._recover(0, error, sent, parts)
            return
        try:
            reply = self._host.receive(upcoming)
        except (RunnerFailed, WorkerLost) as error:
            self._recover(0, error, sent, parts)
            return
        if reply is not None:
            self._restarts.went_well()
            self._on_info(reply)
            self._collector.settle(sent[0], reply.results, reply.seconds)
            sent.popleft()

    def _upcoming(self, sent: deque[Batch], parts: list[Batch]) -> Batch | float | None:
        """What to send now; or the time at which to ask again; None: nothing before an answer."""
        if not sent:
            return parts.pop()
        if parts or len(sent) > 1 or not self._host.holds_two:
            return None
        return self._collector.next_batch_early(sent[0])

    def _recover(
        self, place: int, error: RunnerFailed | WorkerLost, sent: deque[Batch], parts: list[Batch]
    ) -> None:
        """From what happened to that one of those sent."""
        part = sent[place]
        if isinstance(error, WorkerLost):
            while len(sent) > 1:  # it had not begun
                parts.append(sent.pop())
        match next_step(error, part.size, self._closing.is_set()):
            case Step.HALVE:
                _log.warning("a batch of %d failed, it runs again in halves: %s", part.size, error)
                parts += reversed(self._collector.halve(part, isinstance(error, OutOfMemory)))
            case Step.REQUEUE:
                _log.error(
                    "%s while running %d requests; they run again on the next worker",
                    error,
                    part.size,
                )
                while parts:  # each goes before the last, and the lost one before all
                    self._collector.requeue(parts.pop(0), lost=False)
                if self._collector.requeue(part, lost=True):
                    self._restarts.poison_found()
            case Step.FAIL:
                is_lost = isinstance(error, WorkerLost)
                why = Draining("the service has shut down", 1.0) if is_lost else error
                self._collector.fail(part, why)
        del sent[place]

    def _run_canary(self, batch: Batch) -> None:
        seconds = 0.0
        try:
            reply = run_on(self._host, [self._canary], batch.hang_timeout)
            self._on_info(reply)
            failure = as_outcome(reply.results[0])
            if failure is not None:
                raise failure
        except WorkerLost as error:
            _log.error("%s while it was being tried", error)
        except BatcherError as error:
            self._host.abandon("canary")
            _log.error("replica %d failed when it was tried: %s", self._replica, error)
        else:
            seconds = reply.seconds
            if self._has_been_tried:  # it has lived for a while: what it was started for is over
                self._restarts.went_well()
            self._has_been_tried = True
        finally:
            self._collector.settle(batch, (), seconds)

    def _on_info(self, reply: Reply) -> None:
        if reply.info is not None:
            self._collector.replica_changed(self._replica, reply.info)

    # Starts

    def _start_first(self) -> None:
        try:
            info = self._host.start()
        except BatcherError as error:
            _log.error("replica %d did not start: %s", self._replica, error)
            self._restarts.first_start_failed()
            self._on_tried(error)
            self._collector.replica_waits(self._replica, 0.0, str(error), False)
        except BaseException as error:  # a bug; whoever waits for the start must hear of it too
            self._on_tried(RunnerFailed(explain(error)))
            raise
        else:
            self._up(info)
            self._on_tried(None)

    def _up(self, info: RunnerInfo) -> None:
        self._has_been_tried = False
        self._collector.replica_up(self._replica, info)
        if self._host.lost is not None:  # it has died since, and said so before it was up
            self._collector.replica_down(self._replica, self._host.lost)
        self._on_up()

    def _restart(self) -> None:
        why = self._host.lost
        while not self._collector.finished and not self._closing.is_set():
            is_broken, delay = self._restarts.is_broken, self._restarts.next_delay()
            if why is not None:
                self._collector.replica_waits(self._replica, delay, why, is_broken)
            attempt = self._restarts.attempts
            _log.warning("replica %d restarts in %.1f s, attempt %d", self._replica, delay, attempt)
            if self._closing.wait(delay):
                return
            try:
                info = self._host.start()
            except BatcherError as error:
                why = str(error)
                _log.error("replica %d did not start: %s", self._replica, error)
            else:
                self._up(info)
                return
