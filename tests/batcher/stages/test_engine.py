"""An engine with stages, to start, use and end; in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from batcher import Draining, NotReady, RunnerFailed
from batcher.runner import RunnerInfo
from batcher.stages.engine import StagedEngine
from tests.fakes import Echo, GatedRunner, run_async


class Cpu(Echo):
    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        [(stage, value)] = payloads
        return [(value.upper(), 1) if stage == "preprocess" else f"<{value}>"]


class Broken(Echo):
    def warm_up(self) -> dict[str, object]:
        raise ValueError("setup_cpu broke")


def engine_of(
    runner: Any, stages: tuple[bool, bool] = (True, True), cpu: Any = Cpu
) -> StagedEngine:
    def stages_of(info: RunnerInfo) -> tuple[bool, bool]:
        return stages

    return StagedEngine(runner, [cpu, cpu], stages_of, isolation="thread")


def test_inputs_go_through_all_stages() -> None:
    async def main() -> None:
        async with engine_of(Echo) as engine:
            assert await asyncio.gather(*map(engine.submit, "abc")) == ["<A>", "<B>", "<C>"]
            now = await engine.snapshot()
            assert (now.ready, now.ok, now.accepted, len(now.cpu_workers)) == (True, 3, 3, 2)

    run_async(main())


@pytest.mark.parametrize("stages", [(True, True), (False, False)], ids=str)
def test_leaving_answers_what_was_accepted_and_refuses_the_rest(stages: tuple[bool, bool]) -> None:
    async def main() -> None:
        gated = GatedRunner()
        engine = engine_of(lambda: gated, stages)
        await engine.start()
        asked = asyncio.create_task(engine.submit("a"))
        await gated.started.wait_async()
        draining = asyncio.create_task(engine.drain())
        while (await engine.snapshot()).phase == "open":  # noqa: ASYNC110  the loop turns
            await asyncio.sleep(0)
        with pytest.raises(Draining):
            await engine.submit("b")
        gated.release()
        assert await asked == ("<A>" if stages[0] else "a")
        assert await draining
        await engine.close()

    run_async(main())


def test_nothing_is_accepted_before_the_stages_are_up_and_one_that_fails_ends_the_start() -> None:
    async def main() -> None:
        engine = engine_of(Echo, cpu=Broken)
        with pytest.raises(NotReady):
            engine.entrance.submit([])
        with pytest.raises(RunnerFailed, match="setup_cpu broke"):
            await engine.start()
        assert not (await engine.snapshot()).ready
        await engine.close()

    run_async(main())
