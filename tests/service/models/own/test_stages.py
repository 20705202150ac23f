"""A Model's stages in real processes: where each method runs, and who pays for what kills one."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from batcher import Engine, PoisonRequest, RunnerFailed
from batcher.clock import MonotonicClock
from service.placement.layout import Layout
from service.processes.build import make_engine
from service.settings import Settings
from tests.fakes import run_async

MODEL = "tests.service.models.own.models:Doubles"


def engine_of(name: str = MODEL, **settings: Any) -> Engine:
    given = {"runner": name, "cpu_workers": 2, "request_timeout_ms": 20_000, **settings}
    return make_engine(Settings(**given), Layout(), MonotonicClock())


def test_each_method_runs_where_it_belongs_and_a_killer_dies_alone() -> None:
    async def main() -> None:
        async with engine_of() as engine:
            submit = engine.client.submit_all
            [answer] = await submit(["cpu"])
            preprocessed, predicted, postprocessed = answer.value
            assert predicted not in (preprocessed, postprocessed, os.getpid())
            assert {name for name, _, _ in answer.stages} == {"preprocess", "postprocess"}
            await asyncio.to_thread(os.kill, preprocessed, signal.SIGKILL)
            [again] = await submit(["1 2"])
            assert again.value["doubled"] == [2.0, 4.0]

            mates = [submit([f"{number}"]) for number in range(1, 6)]
            outcomes = await asyncio.gather(
                submit(["kill"]), submit(["raise"]), *mates, return_exceptions=True
            )
            killer, culprit, *others = outcomes
            assert isinstance(killer, PoisonRequest)
            assert isinstance(culprit, RunnerFailed)
            assert [answer[0].value["doubled"] for answer in others] == [  # type: ignore[index]
                [2.0 * number] for number in range(1, 6)
            ]
            now = await engine.snapshot()
            assert sum(sum(worker.restarts.values()) for worker in now.cpu_workers) == 4
            assert now.replicas[0].restarts == {}
            assert now.accepted == now.ok + now.failed

    run_async(main())
