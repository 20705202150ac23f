"""Tells exchanges that they have become slow; all the others cost an append and a pop.

They come in order of their start, so one timer does for all of them; none runs when idle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from service.http.exchange import PATIENCE, Exchange


class Patience:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # Oldest first. One that has ended goes as soon as none before it runs: kept for longer, it
        # would keep its whole request alive, and the next one would get memory that is cold.
        self._exchanges: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        if self._timer is None:
            self._arm(PATIENCE)

    def ended(self, exchange: Exchange) -> None:
        exchange.end()
        exchanges = self._exchanges
        while exchanges and exchanges[0].ended:
            exchanges.popleft()

    def _arm(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        horizon = self._now() - PATIENCE
        while self._exchanges and self._exchanges[0].started <= horizon:
            exchange = self._exchanges.popleft()
            if not exchange.ended:
                exchange.became_slow()
        if self._exchanges:
            self._arm(max(0.001, self._exchanges[0].started - horizon))
