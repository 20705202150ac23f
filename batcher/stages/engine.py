"""StagedEngine: an engine whose inputs go through CPU processes of their own before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from batcher.client import Entrance
from batcher.engine import Engine
from batcher.limits import Limits
from batcher.request import Payload
from batcher.runner import RunnerFactory, RunnerInfo
from batcher.stages.collector import StageCollector
from batcher.stages.stages import Stages


class _CollectorsEngine(Engine):
    collector_type = StageCollector
    _collector: StageCollector


class StagedEngine(_CollectorsEngine):
    """`cpu` makes the runner of each CPU process: its payloads are (stage, value), and its result
    for preprocess is (value, cost). `stages_of` says, of what the device's runner has reported,
    whether there is something to preprocess, and to postprocess; if neither, no CPU process is
    started.
    """

    def __init__(
        self,
        runners: RunnerFactory | Sequence[RunnerFactory],
        cpu: Sequence[RunnerFactory],
        stages_of: Callable[[RunnerInfo], tuple[bool, bool]],
        *,
        limits: Limits | None = None,
        **options: Any,  # as Engine's
    ) -> None:
        limits = limits or Limits()
        super().__init__(runners, limits=limits, **options)
        one_by_one = replace(limits, max_batch_size=1, max_wait=0.0, cache_bytes=0)
        self._cpu = _CollectorsEngine(cpu, limits=one_by_one, name="cpu", **options)
        self._stages_of = stages_of
        self._stages = Stages(self._collector, self._cpu._collector)

    @property
    def entrance(self) -> Entrance:
        return self._stages

    async def start(self, *, canary: Payload = None, canary_interval: float | None = None) -> None:
        """See Engine.start. The CPU processes start once the device's runner is up."""
        await super().start(canary=canary, canary_interval=canary_interval)
        replicas = self._collector.snapshot().replicas
        info = next((replica.info for replica in replicas if replica.up), replicas[0].info)
        preprocess, postprocess = self._stages_of(info)
        if preprocess or postprocess:
            await self._cpu.start()
        self._stages.open(preprocess, postprocess)

    async def drain(self, timeout: float | None = None) -> bool:
        seconds = self._drain_timeout if timeout is None else timeout
        until = self._clock.now() + seconds
        is_drained = await asyncio.to_thread(self._stages.drain, until)
        # Without stages all of the work is the device's collector's; with them none is left there.
        left = max(0.0, until - self._clock.now())
        both = await asyncio.gather(super().drain(left), self._cpu.drain(left))
        return is_drained and all(both)

    async def close(self) -> None:
        self._stages.close()
        await asyncio.gather(super().close(), self._cpu.close())

    async def crashed(self) -> BaseException:
        either = [asyncio.ensure_future(each) for each in (super().crashed(), self._cpu.crashed())]
        try:
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for each in either:
                each.cancel()
