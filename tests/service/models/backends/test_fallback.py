"""A backend that fails in service, and the one that takes its place."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

pytest.importorskip("torch")

from batcher import Engine
from batcher.runner import RunnerInfo
from service.models import RunnerConfig
from service.models.backends import Answers, Ids, Types, fallback
from service.models.backends.fallback import Fallback
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from tests.service.configs import runner_config
from tests.service.runners import BreaksInService
from tests.service.tiny import make_tiny, read_spec

GOOD, BAD = np.ones(3, np.int32), np.zeros(3, np.int32)  # nobody can answer BAD


class Fake:
    dtype, versions = "float32", "1"

    def __init__(self, name: str, value: float = 1.0) -> None:
        self.name, self.value = name, value
        self.error: Exception | None = None
        self.runs = self.closed = 0

    def facts(self) -> Mapping[str, object]:
        return {"device": "cpu", "made_by": self.name}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        self.runs += 1
        if self.error is not None:
            raise self.error
        if any(not ids.any() for ids in sequences):
            raise IndexError("no such token")
        return np.full((len(sequences), 2), self.value, np.float32)

    def close(self) -> None:
        self.closed += 1


class Stage:
    def __init__(self) -> None:
        self.graph, self.plain = Fake("onnx"), Fake("torch", 2.0)
        self.opened = 0
        self.said: list[str] = []
        self.fallback = Fallback(self.graph, self._open, self.said.append)

    def forward(self, *sequences: Ids) -> Answers:
        """As EncoderRunner.run does."""
        try:
            answers = self.fallback.running.forward(sequences)
        except Exception as error:
            return self.fallback.answer(lambda backend: backend.forward(sequences), error)
        self.fallback.failures = 0
        return answers

    def _open(self) -> Fake:
        self.opened += 1
        return self.plain


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_as_long_as_nothing_fails_nothing_else_is_opened(stage: Stage) -> None:
    assert stage.forward(GOOD)[0, 0] == 1.0
    assert (stage.fallback.running.name, stage.opened) == ("onnx", 0)
    assert stage.fallback.failed == {}


def test_what_fails_where_torch_does_not_is_replaced_for_good(stage: Stage) -> None:
    stage.graph.error = RuntimeError("Non-zero status code")
    assert [stage.forward(GOOD)[0, 0] for _ in range(4)] == [2.0] * 4
    assert (stage.graph.runs, stage.graph.closed, stage.opened) == (3, 1, 1)
    assert stage.fallback.running.name == "torch"
    assert stage.fallback.failed == {"onnx": "RuntimeError: Non-zero status code"}
    assert stage.said == [
        "backend onnx keeps failing; switching to plain PyTorch: RuntimeError: Non-zero status code"
    ]
    stage.fallback.close()
    assert (stage.graph.closed, stage.plain.closed) == (1, 1)


def test_an_input_that_torch_cannot_answer_either_changes_nothing(stage: Stage) -> None:
    for _ in range(2):
        with pytest.raises(IndexError, match="no such token"):
            stage.forward(GOOD, BAD)
    assert stage.forward(GOOD)[0, 0] == 1.0
    assert (stage.fallback.running.name, stage.opened, stage.said) == ("onnx", 1, [])
    stage.fallback.close()
    assert (stage.graph.closed, stage.plain.closed) == (1, 1)


def test_a_failure_now_and_then_is_answered_and_changes_nothing(stage: Stage) -> None:
    for _ in range(4):
        for error, value in ((RuntimeError("for a moment"), 2.0), (None, 1.0)):
            stage.graph.error = error
            assert stage.forward(GOOD)[0, 0] == value
    assert (stage.fallback.running.name, stage.opened, stage.said) == ("onnx", 1, [])
    stage.fallback.close()


def test_a_batch_does_not_wait_for_long_until_the_other_is_loaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the worker would be taken to hang, and the next one would do the same."""
    monkeypatch.setattr(fallback, "_LOAD_TIMEOUT", 0.01)
    loaded = threading.Event()

    def slowly() -> Fake:
        assert loaded.wait(10)
        return stage.plain

    stage.fallback = Fallback(stage.graph, slowly, stage.said.append)
    stage.graph.error = RuntimeError("the graph's own")
    with pytest.raises(RuntimeError, match="the graph's own"):
        stage.forward(GOOD)
    loaded.set()
    monkeypatch.setattr(fallback, "_LOAD_TIMEOUT", 10.0)
    assert stage.forward(GOOD)[0, 0] == 2.0
    stage.fallback.close()


def test_a_device_that_the_other_finds_lost_is_lost(stage: Stage) -> None:
    stage.graph.error = ValueError("CUDA failure 700")
    stage.plain.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        stage.forward(GOOD)
    stage.fallback.close()


def test_an_answer_that_is_no_number_is_none(stage: Stage) -> None:
    stage.graph.error, stage.plain.value = ValueError("the graph's own"), float("nan")
    with pytest.raises(ValueError, match="the graph's own"):
        stage.forward(GOOD)
    assert stage.fallback.running.name == "onnx"


@pytest.mark.parametrize(
    "error", [MemoryError("8 inputs do not fit"), RuntimeError("CUDA error: device-side assert")]
)
def test_a_lack_of_room_and_a_lost_device_are_not_the_backends_failure(
    stage: Stage, error: Exception
) -> None:
    stage.graph.error = error
    with pytest.raises(type(error), match=str(error)):
        stage.forward(GOOD)
    assert stage.opened == 0


def test_without_torch_to_fall_back_to_the_failure_stays_what_it_is(stage: Stage) -> None:
    def breaks() -> Fake:
        raise OSError("the weights are gone")

    stage.fallback = Fallback(stage.graph, breaks, stage.said.append)
    stage.graph.error = RuntimeError("the graph's own")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the graph's own"):
            stage.forward(GOOD)
    stage.fallback.close()


def test_our_own_forward_pass_of_it_is_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    runner = EncoderRunner(runner_config(str(folder), device="cpu", dtype="float32", threads=1))
    assert runner.warm_up()["padding_free"] is True
    ids = np.array([2, 4, 5, 3], np.int32)
    before = np.asarray(runner.run([ids]))
    assert runner.changed_facts() is None

    def breaks(*_: object) -> NoReturn:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(PackedBackend, "_forward", breaks)
    for _ in range(3):
        np.testing.assert_allclose(np.asarray(runner.run([ids])), before, atol=1e-5)
    changed = runner.changed_facts()
    assert changed is not None
    assert (changed["backend"], changed["padding_free"]) == ("torch", None)
    assert changed["backend_failed"] == {"torch": "RuntimeError: no such operator"}


def test_a_batch_that_goes_well_ends_the_row_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    runner = EncoderRunner(runner_config(str(folder), device="cpu", dtype="float32", threads=1))
    runner.warm_up()
    ids = np.array([2, 4, 5, 3], np.int32)
    forward = PackedBackend._forward
    failing = iter((True, True, False, True, True, False))

    def sometimes(*given: Any) -> Any:
        if next(failing):
            raise RuntimeError("for a moment")
        return forward(*given)

    monkeypatch.setattr(PackedBackend, "_forward", sometimes)
    for _ in range(6):
        runner.run([ids])
    assert runner.changed_facts() is None
    runner.close()


def test_in_a_worker_nobody_notices_but_the_log_and_the_info(tmp_path: Path) -> None:
    """A real process, and a graph that breaks once it is in service."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    read_spec(folder)  # so that the worker need not ask the reference
    cache = os.environ["BATCHER_CACHE_DIR"]
    config = runner_config(
        str(folder), device="cpu", dtype="float32", backend="onnx", threads=1, cache_dir=cache
    )
    before, answers, after = asyncio.run(_serve(config))
    assert (before.backend, before.backend_failed) == ("onnx", {})
    assert all(np.array_equal(answers[0], each) for each in answers)
    assert after.details["provider"] is None  # ONNX Runtime's own fact
    np.testing.assert_allclose(np.linalg.norm(answers[0][:-1]), 1.0, atol=1e-5)
    assert (after.backend, after.pid) == ("torch", before.pid)
    assert after.backend_failed == {"onnx": "RuntimeError: the graph has broken"}


async def _serve(
    config: RunnerConfig,
) -> tuple[RunnerInfo, list[Answers], RunnerInfo]:
    async with Engine(BreaksInService(config)) as engine:
        before = (await engine.snapshot()).replicas[0].info
        answers = [await engine.submit(np.array([2, 4, 5, 3], np.int32)) for _ in range(4)]
        return before, answers, (await engine.snapshot()).replicas[0].info
