"""Which backends race, and in which precision: by a description of the machine, not by this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from service.models.backends import (
    Answers,
    BackendNotAvailable,
    Ids,
    Place,
    Types,
    accuracy,
    choose,
)
from service.models.backends.choose import candidates, open_backend
from service.models.backends.race import ALONE, SHORT
from service.models.backends.reference_answers import ReferenceAnswers
from service.models.config import ModelConfig
from service.repository.spec import EncoderSpec

PLAIN = Place("cpu", "cpu (Chip)", 2)
WITH_BFLOAT16 = Place("cpu", "cpu (Chip)", 2, native_bf16=True)
OLD_GPU = Place("cuda:0", "cuda (Chip)", 2)
GPU = Place("cuda:0", "cuda (Chip)", 2, native_bf16=True)


class Fake:
    versions = "1"

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype
        self.is_closed = False

    def facts(self) -> Mapping[str, object]:
        return {"device": "cpu"}

    def forward(self, sequences: Sequence[Ids], types: Types = None) -> Answers:
        return np.ones((len(sequences), 1), dtype=np.float32)

    def close(self) -> None:
        self.is_closed = True


class Machine:
    """Every backend is installed, and each is a fake in the precision that it is opened in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Fake] = []
        self.raced: dict[str, str] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self.too_far: set[tuple[str, str]] = set()  # backend and dtype
        self._compared = ("", "")
        monkeypatch.setattr(choose, "missing", lambda name: [])
        monkeypatch.setattr(choose, "content_of", lambda folder: "content")
        monkeypatch.setattr(choose, "_versions", lambda name: "1")
        monkeypatch.setattr(choose, "benchmark", self._benchmark)
        monkeypatch.setattr(accuracy, "weights_of", lambda folder: "weights")
        monkeypatch.setattr(accuracy, "_compare", self._compare)
        known = ReferenceAnswers([], None, np.zeros((0, 1), np.float32), 0)
        monkeypatch.setattr(accuracy, "load", lambda spec: known)
        monkeypatch.setattr(accuracy, "check", lambda backend, spec, known: 0.0)
        opens = {name: self._opens(name) for name in choose.OPENS}
        monkeypatch.setattr(choose, "OPENS", opens)

    def open(self, place: Place, **config: Any) -> accuracy.Opened:
        spec = EncoderSpec(Path(), "mean", True, 512, 1, 99, 0, "")
        return open_backend(ModelConfig("m", backend="auto", **config), spec, place, print)

    def _opens(self, name: str) -> Any:
        def open_it(config: ModelConfig, *_: Any) -> Fake:
            self.opened.append(Fake(name, config.dtype))
            return self.opened[-1]

        return open_it

    def _benchmark(self, there: Mapping[str, Fake], *_: Any) -> Any:
        self.raced = {name: each.dtype for name, each in there.items()}
        return {name: self.seconds.get(name, {ALONE: 9.0, SHORT: 9.0}) for name in there}

    def _compare(self, _: Any, backend: Fake, *__: Any) -> accuracy.Verdict:
        is_far = (backend.name, backend.dtype) in self.too_far
        return accuracy.Verdict(0.5 if is_far else 1.0, (), not is_far)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_with_bfloat16_each_races_in_the_precision_it_is_best_in(machine: Machine) -> None:
    machine.seconds["openvino"] = {ALONE: 1.0, SHORT: 1.0}
    backend, facts = machine.open(WITH_BFLOAT16)
    assert machine.raced == {"torch": "bfloat16", "onnx": "float32", "openvino": "bfloat16"}
    assert (backend.name, backend.dtype) == ("openvino", "bfloat16")
    assert facts["backend_chosen"] == "measured"
    assert [each.name for each in machine.opened if each.is_closed] == ["torch", "onnx"]


def test_float32_wins_where_it_is_faster_than_half_precision(machine: Machine) -> None:
    machine.seconds["onnx"] = {ALONE: 1.0, SHORT: 1.0}
    backend, _ = machine.open(WITH_BFLOAT16)
    assert (backend.name, backend.dtype) == ("onnx", "float32")


def test_without_bfloat16_all_race_in_float32(machine: Machine) -> None:
    machine.open(PLAIN)
    assert machine.raced == {"torch": "float32", "onnx": "float32", "openvino": "float32"}


def test_a_precision_that_was_asked_for_is_that_of_all_that_race(machine: Machine) -> None:
    machine.open(WITH_BFLOAT16, dtype="float32")
    assert set(machine.raced.values()) == {"float32"}
    machine.open(WITH_BFLOAT16, dtype="bfloat16")
    assert machine.raced == {"torch": "bfloat16", "openvino": "bfloat16"}


def test_who_does_not_keep_to_float32s_answers_races_in_float32(machine: Machine) -> None:
    machine.too_far = {("torch", "bfloat16")}
    machine.open(WITH_BFLOAT16)
    assert machine.raced == {"torch": "float32", "onnx": "float32", "openvino": "bfloat16"}


def test_two_precisions_are_not_paired_or_an_answer_would_depend_on_its_company(
    machine: Machine,
) -> None:
    machine.seconds = {
        "torch": {ALONE: 9.0, SHORT: 1.0},
        "onnx": {ALONE: 1.0, SHORT: 9.0},
        "openvino": {ALONE: 3.0, SHORT: 3.0},
    }
    assert machine.open(WITH_BFLOAT16).backend.name == "openvino"
    assert machine.open(PLAIN).backend.name == "onnx+torch"


def test_one_that_fell_back_to_float32_is_not_paired_with_half_precision(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "missing", lambda name: ["onnxruntime"] * (name == "onnx"))
    machine.too_far = {("torch", "bfloat16")}
    machine.seconds = {
        "torch": {ALONE: 9.0, SHORT: 1.0},
        "openvino": {ALONE: 1.0, SHORT: 4.0},
    }
    backend, _ = machine.open(WITH_BFLOAT16)
    assert machine.raced == {"torch": "float32", "openvino": "bfloat16"}
    assert (backend.name, backend.dtype) == ("openvino", "bfloat16")
    assert [each.name for each in machine.opened if not each.is_closed] == ["openvino"]


@pytest.mark.parametrize("place", [PLAIN, WITH_BFLOAT16, OLD_GPU, GPU])
def test_auto_never_takes_int8(machine: Machine, place: Place) -> None:
    assert "int8" not in candidates("auto", place).values()


def test_on_a_gpu_all_race_in_its_half_precision(machine: Machine) -> None:
    assert candidates("auto", GPU) == {"torch": "bfloat16"}
    assert candidates("auto", OLD_GPU) == {"torch": "float16", "onnx": "float16"}


def test_only_what_is_installed_races(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "missing", lambda name: ["x"] if name == "openvino" else [])
    assert candidates("auto", WITH_BFLOAT16) == {"torch": "bfloat16", "onnx": "float32"}
    monkeypatch.setattr(choose, "missing", lambda name: ["x"])
    with pytest.raises(BackendNotAvailable, match=r"no backend that runs it is installed"):
        candidates("auto", WITH_BFLOAT16)
