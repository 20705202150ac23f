"""SIGTERM and SIGINT: the first asks for an orderly end, the next for one at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

_log = logging.getLogger("service")
_SAME_SIGNAL = 0.05  # seconds; `timeout` and some shells send one signal twice, to us and the group


class Signals:
    def __init__(
        self, drain_delay: float, on_first: Callable[[], None], kill_all: Callable[[], None]
    ) -> None:
        """Of the running event loop. `drain_delay` in seconds; `kill_all` ends every process that
        is ours, before this one ends."""
        self.came = asyncio.Event()
        self.delay = 0.0  # seconds to serve on before the end begins
        self._drain_delay = drain_delay
        self._on_first = on_first
        self._kill_all = kill_all
        self._last = 0.0  # on the loop's clock
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._take, number)

    def on_hangup(self, act: Callable[[], object]) -> None:
        """SIGHUP calls it, instead of ending the process."""
        self._loop.add_signal_handler(signal.SIGHUP, act)

    def _take(self, number: int) -> None:
        name = signal.Signals(number).name
        now = self._loop.time()
        if self.came.is_set() and now - self._last < _SAME_SIGNAL:
            return
        self._last = now
        if self.came.is_set():
            _log.warning("%s again: exiting at once", name)
            self._kill_all()
            os._exit(128 + number)
        if number == signal.SIGTERM:  # from the keyboard nobody waits for load balancers
            self.delay = self._drain_delay
        after = f" in {self.delay:g} s" if self.delay else ""
        _log.info(
            "%s: draining; new requests are refused%s, accepted ones are answered", name, after
        )
        self._on_first()
        self.came.set()
