"""How torch runs a model: packed where it can, with the answers of the model as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.models.backends import Backend, Place
from service.models.config import ModelConfig
from service.repository.spec import EncoderSpec
from tests.service.tiny import make_tiny, read_spec

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from service.models.backends.torch import packed as torch_packed
from service.models.backends.torch.bert import Linear
from service.models.backends.torch.eager import TorchBackend, load
from service.models.backends.torch.open import open_torch
from service.models.backends.torch.packed import PackedBackend

CPU = Place("cpu", "cpu (Chip)", 1)


def opened(folder: Path, said: list[str], **config: Any) -> tuple[Backend, EncoderSpec]:
    spec = read_spec(folder)
    asked = ModelConfig(str(folder), **({"dtype": "float32"} | config))
    return open_torch(asked, spec, CPU, said.append), spec


def batch(*lengths: int) -> list[NDArray[np.int32]]:
    draw = np.random.default_rng(3)
    # From 0: the padding id may stand in a text, too.
    return [draw.integers(0, 9, length, dtype=np.int32) for length in lengths]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_packed_model_answers_as_it_does_padded(tmp_path: Path, kind: str, pooling: str) -> None:
    said: list[str] = []
    packed, spec = opened(make_tiny(tmp_path, kind, pooling, normalize=False), said)
    assert isinstance(packed, PackedBackend), said
    padded = TorchBackend(load(spec, torch.device("cpu"), torch.float32), spec, torch.device("cpu"))
    for sequences in (batch(5), batch(4, 4, 4), batch(9, 1, 4, 9, 2), batch(*range(15, 0, -1))):
        np.testing.assert_allclose(
            packed.forward(sequences), padded.forward(sequences), atol=1e-5, rtol=1e-5
        )


def test_a_packed_backend_tells_the_scheduler_that_padding_is_free(tmp_path: Path) -> None:
    packed, _ = opened(make_tiny(tmp_path, "bert", "mean", normalize=True), [])
    assert packed.facts()["padding_free"] is True
    assert packed.versions.endswith("packed")


def test_a_model_of_another_kind_is_padded_and_the_log_says_why(tmp_path: Path) -> None:
    said: list[str] = []
    padded, _ = opened(make_tiny(tmp_path, "distilbert", "mean", normalize=True), said)
    assert said == ["using the model's own PyTorch code: a distilbert, not a BERT"]
    assert "padding_free" not in padded.facts()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda hidden, *_: hidden[:4] + 1.0, "its answers differ by"),
        (lambda hidden, *_: hidden[:4] * float("nan"), "its answers differ by nan"),
        (lambda *_: {}["gone"], "KeyError: 'gone'"),
    ],
)
def test_packing_that_does_not_work_here_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, reason: str
) -> None:
    monkeypatch.setattr(torch_packed, "pool_packed", broken)
    said: list[str] = []
    backend, _ = opened(make_tiny(tmp_path, "bert", "mean", normalize=True), said)
    assert isinstance(backend, TorchBackend)
    assert len(said) == 1
    assert reason in said[0]


@pytest.mark.parametrize("packs", [True, False])
def test_a_linear_layer_is_the_same_packed_and_not(
    monkeypatch: pytest.MonkeyPatch, packs: bool
) -> None:
    from service.models.backends.torch import bert

    if not packs:
        monkeypatch.setattr(bert, "can_pack", lambda _: False)
    torch.manual_seed(0)
    weight, bias = torch.randn(24, 16) / 4, torch.randn(24)
    x, to = torch.randn(5, 16), torch.randn(5, 24)
    linear = Linear(weight, bias)
    plain = x @ weight.T + bias
    with torch.inference_mode():
        torch.testing.assert_close(linear(x), plain)
        torch.testing.assert_close(linear.gelu(x), torch.nn.functional.gelu(plain))
        torch.testing.assert_close(linear.add(x, to), plain + to)
