"""A fault in any fast path is caught as the path is opened, by the reference's answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from service.models.backends import Place, Say
from service.models.backends.accuracy import Opened, TooInaccurate, open_guarded
from service.models.backends.choose import OPENS
from service.models.backends.onnx import export
from service.models.backends.reference_answers import Disagrees
from service.models.backends.torch import open as torch_path
from service.models.backends.torch import packed
from service.models.backends.torch.bert import Bert, why_not
from service.models.backends.torch.compiled import compile_backend
from service.models.config import ModelConfig
from service.repository.spec import EncoderSpec
from tests.service.tiny import make_tiny, read_spec

pytest.importorskip("sentence_transformers")

CPU = Place("cpu", "cpu (test)", 1)
PATHS: Mapping[str, Mapping[str, Any]] = {
    "packed": {"backend": "torch"},
    "padded": {"backend": "torch"},
    "compiled": {"backend": "torch", "compile": True},
    "onnx": {"backend": "onnx"},
    "openvino": {"backend": "openvino"},
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EncoderSpec:
    return read_spec(make_tiny(tmp_path_factory.mktemp("tiny"), "bert", "mean", normalize=True))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenVINO reads the graph that ONNX Runtime has of a fault."""
    return tmp_path_factory.mktemp("graphs")


def opened(spec: EncoderSpec, path: str, cache: Path, **config: Any) -> Opened:
    given = {"dtype": "float32", **PATHS[path], **config}
    backend = str(given.pop("backend"))
    asked = ModelConfig(str(spec.folder), backend=backend, cache_dir=str(cache), **given)

    def opens(config: ModelConfig, read: EncoderSpec, place: Place, say: Say) -> Any:
        return OPENS[backend](config, spec, place, say)  # by a spec that may be wrong

    right = dataclasses.replace(spec, pooling="mean")
    return open_guarded(opens, asked, right, CPU, print)


def skips_a_layer(model: Any) -> Any:
    model.encoder.layer = model.encoder.layer[:1]
    return model


def ignores_the_mask(model: Any) -> Any:
    forward = model.forward
    model.forward = lambda input_ids, attention_mask=None, **more: forward(input_ids, **more)
    return model


def overflows(model: Any) -> Any:
    """In half precision alone."""
    for layer in model.encoder.layer:
        weight = layer.output.dense.weight
        if weight.dtype != torch.float32:
            torch.nn.init.constant_(weight, float("inf"))
    return model


def loading(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any], Any]) -> None:
    load = torch_path.load
    for module in (torch_path, export):
        monkeypatch.setattr(module, "load", lambda *given, **more: fault(load(*given, **more)))


@pytest.fixture(autouse=True)
def _as_the_path_says(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    path = request.node.callspec.params.get("path")
    if path != "packed":
        monkeypatch.setattr(torch_path, "why_not", lambda config: "of the test")
    compile_as_it_is = partial(compile_backend, compile=lambda model: model)  # else 20 s
    monkeypatch.setattr(torch_path, "compile_backend", compile_as_it_is)


@pytest.mark.parametrize("path", PATHS)
def test_without_a_fault_a_path_is_opened(spec: EncoderSpec, path: str, graphs: Path) -> None:
    backend, facts = opened(spec, path, graphs / "none")
    named = "torch-compiled" if path == "compiled" else PATHS[path]["backend"]
    assert backend.name == named
    assert ("padding_free" in backend.facts()) == (path == "packed")
    assert float(str(facts["reference_distance"])) < 1e-4


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_pooling_is_caught(spec: EncoderSpec, path: str, graphs: Path) -> None:
    with pytest.raises(Disagrees, match="does not give the reference library's answers"):
        opened(dataclasses.replace(spec, pooling="cls"), path, graphs / "pooling")


@pytest.mark.parametrize("path", PATHS)
def test_a_skipped_layer_is_caught(
    spec: EncoderSpec, path: str, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading(monkeypatch, skips_a_layer)
    with pytest.raises(Disagrees, match="does not give the reference library's answers"):
        opened(spec, path, graphs / "layer")


@pytest.mark.parametrize("path", [name for name in PATHS if name != "packed"])
def test_a_mask_that_is_ignored_is_caught(
    spec: EncoderSpec, path: str, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading(monkeypatch, ignores_the_mask)
    with pytest.raises(Disagrees, match="does not give the reference library's answers"):
        opened(spec, path, graphs / "mask")


def everybody_attends_to_all(pack: packed.Pack) -> Any:
    def attend(qkv: torch.Tensor, heads: int) -> torch.Tensor:
        query, key, value = qkv.view(1, len(qkv), 3, heads, -1).permute(2, 0, 3, 1, 4)
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return found.transpose(1, 2).reshape(len(qkv), -1)

    return attend


def without_the_last_layer(model: Any) -> Any:
    made = Bert(model)
    made._layers = made._layers[:-1]
    return made


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [(packed, "_attend", everybody_attends_to_all), (torch_path, "Bert", without_the_last_layer)],
)
def test_a_fault_of_the_packed_path_alone_leaves_it_out(
    spec: EncoderSpec,
    graphs: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    fault: Any,
) -> None:
    monkeypatch.setattr(where, name, fault)
    monkeypatch.setattr(torch_path, "why_not", why_not)
    backend, facts = opened(spec, "packed", graphs / name)
    assert "padding_free" not in backend.facts()
    assert float(str(facts["reference_distance"])) < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_an_overflow_in_half_precision_is_caught(
    spec: EncoderSpec, graphs: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    loading(monkeypatch, overflows)
    to_half = torch_path.to_half  # the other way to one: with a layer or two in float32
    monkeypatch.setattr(torch_path, "to_half", lambda *given: overflows(to_half(*given)))
    with pytest.raises(TooInaccurate, match=r"cosine -1.0000 .* set BATCHER_DTYPE=float32"):
        opened(spec, "padded", graphs / "overflow", dtype=dtype)
