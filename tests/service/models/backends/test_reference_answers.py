"""A backend with a fault of any kind is caught by the reference's answers before it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.models.backends import Backend, Ids, Place, Types, choose
from service.models.backends.accuracy import Opened, open_guarded
from service.models.backends.reference_answers import (
    LONG,
    TOGETHER,
    Disagrees,
    check,
    load,
    parts,
)
from service.models.backends.torch.eager import TorchBackend
from service.models.backends.torch.eager import load as load_model
from service.models.config import ModelConfig
from service.repository.spec import EncoderSpec
from tests.service.tiny import make_classifier, make_tiny, read_spec

pytest.importorskip("sentence_transformers")
CPU = Place("cpu", "cpu (test)", 1)


def eager(spec: EncoderSpec, pooled_as: EncoderSpec | None = None) -> TorchBackend:
    cpu = torch.device("cpu")
    return TorchBackend(load_model(spec, cpu, torch.float32), pooled_as or spec, cpu)


def wrong_pooling(spec: EncoderSpec) -> Backend:
    return eager(spec, dataclasses.replace(spec, pooling="cls"))


def a_layer_skipped(spec: EncoderSpec) -> Backend:
    backend = eager(spec)
    backend.model.encoder.layer = backend.model.encoder.layer[:1]
    return backend


def the_mask_ignored(spec: EncoderSpec) -> Backend:
    backend = eager(spec)
    forward = backend.model.forward
    backend.model.forward = lambda input_ids, attention_mask, **more: forward(input_ids, **more)
    return backend


def an_overflow(spec: EncoderSpec) -> Backend:
    backend = eager(spec)
    with torch.no_grad():
        backend.model.encoder.layer[1].output.dense.weight.mul_(float("inf"))
    return backend


FAULTS: list[Callable[[EncoderSpec], Backend]] = [
    wrong_pooling,
    a_layer_skipped,
    the_mask_ignored,
    an_overflow,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(tmp_path: Path, fault: Callable[[EncoderSpec], Backend]) -> None:
    spec = read_spec(make_tiny(tmp_path, "bert", "mean", normalize=True))
    known = load(spec)
    assert known is not None
    assert check(eager(spec), spec, known) < 1e-5
    for compared in (known, known.few()):  # a first start, and a later one
        with pytest.raises(Disagrees, match="does not give the reference library's answers"):
            check(fault(spec), spec, compared)


def test_a_classifiers_fault_is_caught(tmp_path: Path) -> None:
    spec = read_spec(make_classifier(tmp_path, "bert"))
    known = load(spec)
    assert known is not None
    assert known.types is not None
    assert check(eager(spec), spec, known) < 1e-5
    backend = eager(spec)
    whole = backend.forward
    no_types: Callable[..., Any] = lambda ids, types=None: whole(ids)  # noqa: E731  # as one line
    backend.forward = no_types  # type: ignore[method-assign]  # the fault
    for compared in (known, known.few()):
        with pytest.raises(Disagrees):
            check(backend, spec, compared)


class Twisted:
    """Torch, but for one number."""

    name, dtype, versions = "torch", "float32", "1"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def facts(self) -> dict[str, object]:
        return {"device": "cpu"}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Any:
        answers = self._backend.forward(sequences, types).copy()
        answers[:, 0] += np.float32(0.01)
        return answers

    def close(self) -> None:
        pass


class Counting(Twisted):
    """Torch, and the lengths of each batch that it has run."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.batches: list[list[int]] = []

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Any:
        self.batches.append([len(ids) for ids in sequences])
        return self._backend.forward(sequences, types)


def test_all_is_compared_once_and_a_few_short_inputs_at_every_start(tmp_path: Path) -> None:
    spec = read_spec(make_tiny(tmp_path, "bert", "mean", normalize=True))
    known = load(spec)
    assert known is not None
    config = ModelConfig(str(spec.folder), cache_dir=str(tmp_path / "cache"))

    def opened(backend: Backend, place: Place = CPU) -> Opened:
        return open_guarded(lambda *_: backend, config, spec, place, print)

    def batches(place: Place = CPU) -> list[list[int]]:
        counting = Counting(eager(spec))
        opened(counting, place)
        return counting.batches

    assert sum(map(len, first := batches())) == len(known.inputs)
    assert all(max(batch) <= LONG for batch in first if len(batch) > 1)
    assert [len(batch) for batch in batches()] == [len(known.few().inputs)]
    other = dataclasses.replace(CPU, instructions="others")  # of a machine with a CPU of that name
    assert batches(other) == first
    with pytest.raises(Disagrees):  # although an earlier start found nothing wrong
        opened(Twisted(eager(spec)))


def test_a_long_input_is_a_batch_by_itself() -> None:
    lengths = [3, 4, LONG, LONG + 1, 5, LONG + 1, LONG + 1, *[2] * (TOGETHER + 1)]
    inputs = [np.zeros(n, np.int32) for n in lengths]
    sizes = [len(inputs[part]) for part in parts(inputs)]
    assert sizes == [3, 1, 1, 1, 1, TOGETHER, 1]


def test_the_reference_runs_where_every_other_one_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_spec(make_tiny(tmp_path, "bert", "mean", normalize=True))
    opens = dict(choose.OPENS) | {
        name: lambda config, spec, place, say: Twisted(eager(spec))
        for name in ("torch", "onnx", "openvino")
    }
    monkeypatch.setattr(choose, "OPENS", opens)
    config = ModelConfig(str(spec.folder), backend="auto", cache_dir=str(tmp_path / "cache"))
    said: list[str] = []
    opened = choose.open_backend(config, spec, CPU, said.append)
    assert opened.backend.name == "reference"
    assert "does not give" in str(opened.facts["backend_failed"])
    again = choose.open_backend(config, spec, CPU, said.append)
    assert again.backend.name == "reference"
