"""A Model in its worker: what its methods get, and whom an error costs what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batcher import BadInput, Model, RunnerFailed, Tensor
from batcher.failures import as_outcome
from service.models.config import RunnerConfig
from service.models.create import create_runner
from service.models.own.find import RunnerNotFound
from service.models.own.runner import ModelRunner, tensors
from service.tasks.packed import unpack_response
from tests.service.configs import runner_config
from tests.service.models.own.models import Declared

MODELS = "tests.service.models.own.models"


def runner_of(name: str, **more: Any) -> Any:
    config = RunnerConfig(runner_config("any").settings, **more)
    runner = create_runner(f"{MODELS}:{name}", config)
    runner.warm_up()
    return runner


def outcomes(results: Any) -> list[Any]:
    return [as_outcome(result) or result for result in results]


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        ("bad", BadInput, "this one is bad"),
        ("raise", RunnerFailed, "ValueError: preprocess broke"),
        ("object", RunnerFailed, "what preprocess returned cannot be passed on: a value of type"),
        ("7", BadInput, "seven is not answered"),
    ],
)
def test_what_fails_for_one_input_is_its_own_failure(
    bad: str, kind: type[Exception], says: str
) -> None:
    runner = runner_of("Doubles")
    first, culprit, last = outcomes(runner.run(["1", bad, "3"]))
    assert (first["doubled"], last["doubled"]) == ([2.0], [6.0])
    assert type(culprit) is kind
    assert says in str(culprit)


def test_inputs_of_one_shape_are_one_array_and_others_are_a_list() -> None:
    runner = runner_of("Doubles")
    assert [each["doubled"] for each in runner.run(["1 2", "3 4"])] == [[2.0, 4.0], [6.0, 8.0]]
    assert [each["doubled"] for each in runner.run(["1 2", "3"])] == [[2.0, 4.0], [6.0]]


class Fails(Model):
    def predict(self, batch: Any) -> Any:
        return batch.sum(axis=1)


def test_a_list_that_predict_does_not_expect_says_what_to_define() -> None:
    runner = ModelRunner(Fails(), "fails", "cpu")
    with pytest.raises(RunnerFailed, match="different shapes, so predict got a list of them"):
        runner.run([np.zeros(1), np.zeros(2)])


def test_predict_raises_for_its_batch_which_the_engine_halves() -> None:
    runner = runner_of("Doubles")
    with pytest.raises(ValueError, match="predict broke"):
        runner.run(["13", "2"])
    assert len(runner.run(["raise", "bad"])) == 2  # nothing is left to predict


class Refuses(Model):
    def predict(self, batch: Any) -> Any:
        raise BadInput("not this")


def test_a_bad_input_that_predict_finds_is_known_once_it_is_alone() -> None:
    runner = ModelRunner(Refuses(), "refuses", "cpu")
    with pytest.raises(BadInput):
        runner.run([1, 2])
    assert type(runner.run([1])[0]) is BadInput


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1], "predict returned 1 results for 2 inputs"),
        (np.zeros(3), "predict returned 3 results for 2 inputs"),
        (np.float64(1), "a single number"),
        (np.array(1.0), "a single number"),
        ("ab", "predict returned str, no sequence"),
        (None, "predict returned NoneType"),
        ({"a": np.zeros(1)}, "predict returned 1 of 'a' for 2 inputs"),
        ({"a": 5}, "'a' in it is int: each must be an array"),
    ],
    ids=str,
)
def test_a_wrong_number_of_outputs_fails_the_batch(returned: Any, says: str) -> None:
    class Wrong(Model):
        def predict(self, batch: Any) -> Any:
            return returned

    with pytest.raises(RunnerFailed, match=says):
        ModelRunner(Wrong(), "wrong", "cpu").run([1, 2])


def test_a_dict_of_arrays_has_the_rows_of_each_output() -> None:
    assert runner_of("Columns").run(["a", "bcd"]) == [
        {"length": 1, "as": "a"},
        {"length": 3, "as": "bcd"},
    ]


def test_an_array_of_outputs_crosses_whole() -> None:
    results = runner_of("Declared").run([np.ones(2, np.float32)] * 3)
    assert isinstance(results, np.ndarray)
    assert results.tolist() == [2.0, 2.0, 2.0]


def test_an_output_that_is_too_large_is_its_own_inputs_failure() -> None:
    runner = runner_of("Doubles", max_output_bytes=50)
    small, large = outcomes(runner.run(["1", "1 " * 50]))
    assert small["doubled"] == [2.0]
    assert "larger than 50 bytes: BATCHER_MAX_BODY_BYTES" in str(large)


def test_bytes_and_a_response_are_answers() -> None:
    eight, nine = map(unpack_response, runner_of("Doubles").run(["8", "9"]))
    assert (eight.body, eight.content_type) == (b"<eight/>", "image/svg+xml")
    assert (nine.body, nine.content_type) == (b"nine", "application/octet-stream")


def test_tensors_of_torch_and_images_of_pillow_are_answers() -> None:
    torch = pytest.importorskip("torch")
    from PIL import Image

    class Heavy(Model):
        def predict(self, batch: Any) -> Any:
            return torch.ones(len(batch), 2, dtype=torch.bfloat16)

    class Draws(Model):
        def predict(self, batch: Any) -> Any:
            return [{"mask": torch.ones(2)}, Image.new("L", (2, 2))]

    assert ModelRunner(Heavy(), "heavy", "cpu").run([1]).tolist() == [[1.0, 1.0]]
    mask, drawn = ModelRunner(Draws(), "draws", "cpu").run([1, 2])
    assert mask["mask"].tolist() == [1.0, 1.0]
    assert unpack_response(drawn).content_type == "image/png"


def test_a_class_with_a_predict_is_a_model_and_a_launch_overlaps() -> None:
    assert runner_of("Duck").run(["a", "b"]) == ["A", "B"]
    runner = runner_of("Overlaps")
    assert runner.launch([1, 2])() == [2, 4]
    assert runner_of("Duck").launch is None


def test_a_class_without_a_predict_says_so() -> None:
    with pytest.raises(RunnerNotFound, match="the class has no predict"):
        runner_of("Nothing")


@pytest.mark.parametrize(
    "given",
    [
        ("x",),
        ("x", "floaty"),
        ("x", "complex64"),
        ("x", "float32", (-2,)),
        ("x", "float32", 5),
        ("", "float32"),
    ],
    ids=str,
)
def test_a_declaration_that_cannot_be_is_named(given: Any) -> None:
    with pytest.raises(RunnerFailed, match="inputs of the model: "):
        tensors([given], "inputs")


def test_declarations_are_reported() -> None:
    facts = ModelRunner(Declared(), "declared", "cpu").warm_up()
    assert facts["inputs"] == [("x", "float32", [2])]
    assert facts["outputs"] == [("total", "float32", [])]
    with pytest.raises(RunnerFailed, match="two have the same name"):
        tensors([Tensor("x", "bool"), Tensor("x", "int8")], "inputs")
