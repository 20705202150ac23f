"""Threads for work that would stop the event loop: parsing large bodies, tokenising long texts.

They are the frontend's own, so that nothing else queues behind that work. It starts no thread
before it is needed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from batcher import DeadlineExceeded, Overloaded
from batcher.clock import Clock
from batcher.scheduling.admission import SHARE

Result = TypeVar("Result")

THREADS = min(4, os.cpu_count() or 1)
# In work or waiting for a thread. Each holds its body, of 32 MiB at most by default; no limit of
# inputs can do this: what is in here has not been counted yet.
MAX_IN_FLIGHT = 256


class OffloadPool:
    def __init__(
        self, clock: Clock, threads: int = THREADS, max_in_flight: int = MAX_IN_FLIGHT
    ) -> None:
        self._clock = clock
        self._room = max_in_flight
        self._held: Counter[str | None] = Counter()  # in flight, by caller
        self._lock = threading.Lock()  # the threads give back what the event loop took
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tokenise")

    async def run(
        self,
        deadline: float,
        function: Callable[..., Result],
        *arguments: Any,
        caller: str | None = None,
    ) -> Result:
        """What the function returns or raises. Raises Overloaded at once where too much is in
        flight, for all or for the share of this caller, and DeadlineExceeded. A caller that goes
        takes its work along, unless it runs."""
        remaining = deadline - self._clock.now()
        if remaining <= 0:
            raise _too_late()
        self._enter(caller)
        future = self._threads.submit(function, *arguments)
        future.add_done_callback(lambda _: self._leave(caller))
        try:
            async with asyncio.timeout(remaining) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if limit.expired():
                raise _too_late() from None
            raise
        finally:
            # What is raised knows this frame, which would know the future, which knows what was
            # raised: a ring that holds a whole body until a garbage collection, and those are rare.
            del future

    def close(self) -> None:
        """Returns at once; what runs is let finish, for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self, caller: str | None) -> None:
        with self._lock:
            free = self._room - self._held.total()
            held = 0 if caller is None else self._held[caller]
            # The same rule as for the queue: see batcher/scheduling/admission.py.
            if free < 1 or (held and held + 1 > SHARE * free):
                raise Overloaded("too many long inputs wait to be tokenised", retry_after=1.0)
            self._held[caller] += 1

    def _leave(self, caller: str | None) -> None:
        with self._lock:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the input was tokenised")
