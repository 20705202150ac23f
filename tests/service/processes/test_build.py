"""The engine of a service, made and started from its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.clock import MonotonicClock
from service.catalog import ServedModel
from service.placement.layout import Layout, Placement
from service.processes import build
from service.repository.json_files import ModelNotSupported
from service.settings import Settings
from service.tasks.embed import Embed
from service.tasks.protocol import Options
from tests.fakes import run_async
from tests.service.tiny import make_tiny, read_spec


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
            assert not engine.entrance.snapshot().ready
            steps.append(served.name)

        try:
            served, snapshot = await build.start_engine(engine, settings, found)
            assert steps == [served.name, "frozen"]
            assert snapshot.ready
            assert snapshot.replicas[0].info.model == "simulated"
        finally:
            await engine.close()

    run_async(start())


def test_the_prompts_of_the_settings_reach_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    spec = read_spec(folder)
    monkeypatch.setattr(build, "find_spec", lambda settings: spec)
    settings = Settings(model=str(folder), prompt="five ", prompts='{"query": "two "}')
    served = build._serve_model(settings)
    assert served.prompts["query"] == "two "
    task = served.task(Embed)
    for options, ids in ((Options(), [2, 8, 4, 3]), (Options(prompt_name="query"), [2, 5, 4, 3])):
        assert task.preprocess("one", options).payload.tolist() == ids


def test_prompts_are_refused_where_nothing_would_use_them() -> None:
    for runner in ("simulated", "my.module:Runner"):
        with pytest.raises(
            ModelNotSupported, match="BATCHER_PROMPTS are for models that take texts"
        ):
            build._serve_model(Settings(runner=runner, prompt="x"))
