"""What all fronts have counted, over real socket pairs."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.limits import Limits
from batcher.remote.client import RemoteClient
from batcher.remote.messages import Json
from service.observability import whole_service as census
from service.observability.http_counts import HttpDurations, as_json
from service.observability.whole_service import FrontendRegistry, RemoteView, ServiceSnapshot
from tests.fakes import run_async


class Counting:
    """A front, as far as the census knows it."""

    def __init__(self) -> None:
        self.tally = HttpDurations()
        self.tally.routes = ("/embed",)
        self.client = RemoteClient(MonotonicClock(), 60.0, self._asked)
        self.answers = asyncio.Event()
        self.answers.set()

    async def join(self, fronts: FrontendRegistry, number: int) -> None:
        ours, theirs = socket.socketpair()
        await asyncio.gather(fronts.join(number, ours), self.client.attach(theirs))

    async def take(self) -> ServiceSnapshot:
        return await RemoteView(self.client).take()

    async def _asked(self, subject: str) -> Json:
        assert subject == "tally"
        await self.answers.wait()
        return as_json(self.tally.snapshot())


def counts(whole: ServiceSnapshot) -> dict[tuple[str, str], int]:
    return {key: histogram.count for key, histogram in whole.http.items()}


def engine(count: int) -> FrontendRegistry:
    return FrontendRegistry(Collector(Limits(), MonotonicClock()), count)


def test_any_front_is_told_the_sum_of_all() -> None:
    async def test() -> None:
        fronts, one, two = engine(2), Counting(), Counting()
        await one.join(fronts, 0)
        await two.join(fronts, 1)
        for front, seconds in ((one, 0.001), (two, 0.1), (two, 100.0)):
            front.tally.observe("/embed", "ok", seconds)
        two.tally.observe("/embed", "failed", 0.1)
        for front in (one, two):
            whole = await front.take()
            assert counts(whole) == {("/embed", "ok"): 3, ("/embed", "failed"): 1}
            assert whole.http["/embed", "ok"].sum == 100.101
            assert whole.frontends == {0: True, 1: True}
            assert whole.snapshot.phase == "open"
        await one.client.close()
        await two.client.close()
        await fronts.close()

    run_async(test())


def test_one_that_is_gone_or_silent_counts_as_it_last_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(census, "_REPLY_TIMEOUT", 0.02)

    async def test() -> None:
        fronts, one, two = engine(2), Counting(), Counting()
        await one.join(fronts, 0)
        await two.join(fronts, 1)
        two.tally.observe("/embed", "ok", 0.1)
        await one.take()
        two.tally.observe("/embed", "ok", 0.1)
        two.answers.clear()
        whole = await one.take()
        assert (counts(whole), whole.frontends) == ({("/embed", "ok"): 1}, {0: True, 1: False})
        await two.client.close()
        whole = await one.take()  # what it had counted since is lost
        assert (counts(whole), whole.frontends) == ({("/embed", "ok"): 1}, {0: True, 1: False})
        three = Counting()
        await three.join(fronts, 1)
        three.tally.observe("/embed", "ok", 0.1)
        whole = await one.take()
        assert (counts(whole), whole.frontends) == ({("/embed", "ok"): 2}, {0: True, 1: True})
        for front in (one, three):
            await front.client.close()
        await fronts.close()

    run_async(test())
