"""The batching thread: next_batch, run, settle, for ever. One per replica, and the owner of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from batcher.collector import Collector
from batcher.errors import BatcherError, Draining, RunnerFailed, WorkerLost
from batcher.recovery import run_batch
from batcher.request import Batch
from batcher.runner import Host, explain

_log = logging.getLogger(__name__)
_BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before each further attempt in a row


class BatchingThread:
    """Starts its host, feeds it batches, starts it again when it is lost, stops it at the end.

    `on_started` is called once, with the error if the first start failed. `on_crash` is called
    if the thread itself fails, which is a bug: nothing would be served any more.
    """

    def __init__(
        self,
        collector: Collector,
        replica: int,
        host: Host,
        on_started: Callable[[BatcherError | None], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.name = f"batching-{replica}"
        self._collector = collector
        self._replica = replica
        self._host = host
        self._on_started = on_started
        self._on_crash = on_crash
        self._closing = threading.Event()
        self._attempts = 0  # to restart, since a batch last went well
        self._thread = threading.Thread(target=self._main, name=self.name)

    def start(self) -> None:
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

    def _serve(self) -> None:
        """Until the replica is down or everything is done."""
        while (batch := self._collector.next_batch(self._replica)) is not None:
            self._run(batch)

    def _run(self, batch: Batch) -> None:
        try:
            reply = run_batch(self._host.run, batch.requests)
            batch.settle(reply.results, reply.seconds)
            self._attempts = 0
        except WorkerLost as error:
            if self._closing.is_set():
                batch.fail(Draining("the service shut down before the answer was there", 1.0))
                return
            _log.error("%s while running %d requests; they fail", error, batch.size)
            batch.fail(error)  # the host has told the collector already
        except BaseException as error:  # a bug, and the end; but not for these without an answer
            if not batch.settled:
                batch.fail(RunnerFailed(explain(error)))
            raise

    def _start_first(self) -> None:
        try:
            facts = self._host.start()
        except BatcherError as error:
            self._attempts = 1  # the next one waits: if no replica has started, none is wanted
            self._on_started(error)
        except BaseException as error:  # a bug; whoever waits for the start must hear of it too
            self._on_started(RunnerFailed(explain(error)))
            raise
        else:
            self._up(facts)
            self._on_started(None)

    def _up(self, facts: Mapping[str, object]) -> None:
        self._collector.replica_up(self._replica, facts)
        if self._host.lost is not None:  # it has died since, and said so before it was up
            self._collector.replica_down(self._replica, self._host.lost)

    def _restart(self) -> None:
        while not self._collector.finished and not self._closing.is_set():
            delay = _BACK_OFF[min(self._attempts, len(_BACK_OFF) - 1)]
            self._attempts += 1
            _log.warning(
                "replica %d restarts in %.1f s, attempt %d", self._replica, delay, self._attempts
            )
            if self._closing.wait(delay):
                return
            try:
                facts = self._host.start()
            except BatcherError as error:
                _log.error("replica %d did not start: %s", self._replica, error)
            else:
                self._up(facts)
                return
