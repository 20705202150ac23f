"""The engine of a service, made and started from its settings."""

from __future__ import annotations

import pytest

from batcher.clock import MonotonicClock
from service.catalog import ServedModel
from service.placement.layout import Layout, Placement
from service.processes import build
from service.settings import Settings
from tests.fakes import run_async


def test_the_model_is_known_before_its_replica_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[object] = []
    monkeypatch.setattr(build, "freeze", lambda: steps.append("frozen"))
    settings = Settings(runner="simulated", isolation="thread")
    layout = Layout((Placement("cpu", (), 1),))

    async def start() -> None:
        engine = build.make_engine(settings, layout, MonotonicClock())

        def found(served: ServedModel) -> None:
            assert not engine.collector.snapshot().ready
            steps.append(served.name)

        try:
            served, snapshot = await build.start_engine(engine, settings, found)
            assert steps == [served.name, "frozen"]
            assert snapshot.ready
            assert snapshot.replicas[0].info.model == "simulated"
        finally:
            await engine.close()

    run_async(start())
