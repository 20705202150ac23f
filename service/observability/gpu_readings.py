"""Asks NVIDIA's driver in a thread of its own, so that one that hangs holds up nobody.

No thread is started before somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

from service.placement.nvml import Driver, Reading

TIMEOUT = 2.0  # seconds; below what Prometheus gives a scrape, and the driver wakes up in less

_log = logging.getLogger("service")


@dataclass(frozen=True, slots=True)
class _Question:
    devices: Mapping[str, str]  # UUIDs by name
    answer: Future[Sequence[Reading]]


class GpuReadings:
    """For one event loop. At most one question is with the driver; who asks meanwhile shares it."""

    def __init__(self, driver: Driver | None = None, timeout: float = TIMEOUT) -> None:
        self._driver = driver or Driver()
        self._timeout = timeout
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked: Future[Sequence[Reading]] | None = None  # the last question's answer
        self._is_late = False  # the driver, with that answer
        self._last: Sequence[Reading] = ()  # what it told last, also when it was late
        self._is_closed = False

    async def read(self, devices: Mapping[str, str]) -> Sequence[Reading]:
        """What the driver tells now; what it told last, where it takes longer than `timeout`. A
        driver that is late already is not waited for again."""
        if self._is_closed:
            return ()
        answer = self._asked
        if answer is None or answer.done():
            answer = self._ask(devices)
        elif self._is_late:
            return self._last
        # Not cancelled when the timeout or this scrape ends: others wait for it as well.
        waiter = asyncio.wrap_future(answer)
        done, _ = await asyncio.wait({waiter}, timeout=self._timeout)
        if done:
            return waiter.result()
        if not self._is_late:
            self._is_late = True
            _log.warning(
                "NVIDIA's driver has not answered for %g s; /metrics repeats the last batcher_gpu_*"
                " values until it does",
                self._timeout,
            )
        return self._last

    def close(self) -> None:
        """Ends the thread, and the driver's library with it, unless the driver hangs."""
        self._is_closed = True
        if self._thread is not None:
            self._questions.put(None)
            self._thread.join(self._timeout)
            if self._thread.is_alive():
                _log.warning("NVIDIA's driver does not answer; exiting without it")

    def _ask(self, devices: Mapping[str, str]) -> Future[Sequence[Reading]]:
        self._is_late = False
        self._asked = Future()
        self._questions.put(_Question(devices, self._asked))
        if self._thread is None:
            # A daemon: a call into the driver can hang for ever, and nothing can end it but the
            # end of the process.
            self._thread = threading.Thread(target=self._answer, name="gpu-readings", daemon=True)
            self._thread.start()
        return self._asked

    def _answer(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                self._last = self._driver.read(question.devices)
            except Exception as error:  # the scrape's, which asked for it
                question.answer.set_exception(error)
            else:
                question.answer.set_result(self._last)
        self._driver.close()
