"""Tells exchanges that they have become slow, at the price of one append for all the others.

They come in order of their start, so one timer does for all of them; none runs when idle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from service.exchange import PATIENCE, Exchange


class Patience:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # Oldest first. Those that have ended stay until their turn: at most PATIENCE.
        self._exchanges: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        if self._timer is None:
            self._arm(PATIENCE)

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
