"""torch.compile: used where it works, and never in the way where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from service.models.backends import Place
from service.models.backends.torch import open as torch_choice
from service.models.backends.torch.compiled import Compiled, compile_backend
from service.models.backends.torch.eager import TorchBackend, load
from service.models.config import ModelConfig
from service.repository.spec import EncoderSpec
from tests.service.tiny import make_tiny, read_spec


def double(*, x: int) -> int:
    if x < 0:
        raise ValueError("negative")
    return 2 * x


def fails(*, x: int) -> int:
    raise RuntimeError("no C++ compiler")


def test_a_compiled_function_that_fails_is_done_without_from_then_on() -> None:
    said: list[str] = []
    compiled = Compiled(double, fails, said.append)
    assert [compiled(x=1), compiled(x=2)] == [2, 4]
    assert compiled.failed == "RuntimeError: no C++ compiler"
    assert len(said) == 1  # it was not tried again


def test_input_that_the_model_itself_refuses_does_not_count_against_the_compiled_one() -> None:
    compiled = Compiled(double, double, print)
    with pytest.raises(ValueError, match="negative"):
        compiled(x=-1)
    assert compiled.failed == ""


def test_no_room_is_not_a_failure_to_compile() -> None:
    def no_room(*, x: int) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiled = Compiled(double, no_room, print)
    with pytest.raises(torch.OutOfMemoryError):
        compiled(x=1)
    assert compiled.failed == ""


@pytest.fixture
def eager(tmp_path: Path) -> tuple[TorchBackend, EncoderSpec]:
    spec = read_spec(make_tiny(tmp_path, "distilbert", "mean", normalize=True))
    cpu = torch.device("cpu")
    return TorchBackend(load(spec, cpu, torch.float32), spec, cpu), spec


def test_after_the_start_nothing_is_compiled_and_every_batch_is_answered(
    eager: tuple[TorchBackend, EncoderSpec],
) -> None:
    backend, spec = eager
    traced: list[Any] = []

    def trace(model: Any) -> Callable[..., Any]:
        """torch.compile without the C++: the graphs are run as they were traced."""

        def as_traced(graph: Any, _: Any) -> Any:
            traced.append(graph)
            return graph

        return torch.compile(model, dynamic=True, backend=as_traced)

    draw = np.random.default_rng(2)
    batches = [
        [draw.integers(0, 9, n, dtype=np.int32) for n in lengths]
        for lengths in ((1,), (3,), (12,), (5, 5), (3, 7, 12), (2,) * 9)
    ]
    expected = [backend.forward(batch) for batch in batches]
    assert compile_backend(backend, spec, "", print, trace)
    assert (backend.name, backend.facts()["compile"]) == ("torch-compiled", "on")
    at_start = len(traced)
    assert at_start > 0
    for batch, vectors in zip(batches, expected, strict=True):
        np.testing.assert_allclose(backend.forward(batch), vectors, atol=1e-5)
    assert len(traced) == at_start


def test_a_model_that_cannot_be_compiled_runs_as_if_nothing_had_been_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")

    def no_compiler(*_: Any, **__: Any) -> Callable[..., Any]:
        return fails

    monkeypatch.setattr(torch, "compile", no_compiler)
    said: list[str] = []
    config = ModelConfig(str(folder), dtype="float32", compile=True, cache_dir=str(tmp_path))
    place = Place("cpu", "cpu (Chip)", 1)
    backend = torch_choice.open_torch(config, read_spec(folder), place, said.append)
    assert backend.name == "torch"
    assert backend.facts()["padding_free"] is True
    assert "fails" in said[-1]
    assert "fails() got an unexpected" in str(backend.facts()["compile"])
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == ""
