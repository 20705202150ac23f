"""A backend with a fault of any kind is caught by the reference's answers before it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.models.backends import Backend, Ids, Place, Say, Types, choose
from service.models.backends.accuracy import open_guarded
from service.models.backends.reference_answers import TOGETHER, Disagrees, check, load
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
    import dataclasses

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
    with pytest.raises(Disagrees, match="does not give the reference library's answers"):
        check(fault(spec), spec, known)


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
    with pytest.raises(Disagrees):
        check(backend, spec, known)


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


def test_a_later_start_compares_a_few_short_inputs_and_a_fault_is_still_caught(
    tmp_path: Path,
) -> None:
    spec = read_spec(make_tiny(tmp_path, "bert", "mean", normalize=True))
    config = ModelConfig(str(spec.folder), backend="torch", cache_dir=str(tmp_path / "cache"))
    asked: list[int] = []

    def opens(config: ModelConfig, spec: EncoderSpec, place: Place, say: Say) -> Backend:
        backend = eager(spec)
        whole = backend.forward

        def counted(sequences: Sequence[Ids], types: Types = None) -> Any:
            asked.append(len(sequences))
            return whole(sequences, types)

        backend.forward = counted  # type: ignore[method-assign]  # to see what is compared
        return backend

    first = open_guarded(opens, config, spec, CPU, print)
    known = load(spec)
    assert known is not None
    assert sum(asked) == len(known.inputs)
    asked.clear()
    later = open_guarded(opens, config, spec, CPU, print)
    assert asked == [TOGETHER]
    assert later.facts == first.facts
    with pytest.raises(Disagrees):
        open_guarded(lambda *given: Twisted(opens(*given)), config, spec, CPU, print)
