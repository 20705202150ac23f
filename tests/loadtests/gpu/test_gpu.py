"""Claims about the measurements on a GPU. Nothing is measured here."""

import argparse
import contextlib
import json
import math
from pathlib import Path

import pytest

from loadtests.drivers.parallel import Load, summed
from loadtests.gpu import command, paths, served
from loadtests.gpu.budget import Budget
from loadtests.gpu.floor import Shape, floor, read_shape
from loadtests.gpu.served import Saturated

MINILM = Shape(hidden=384, layers=6, inner=1536)


def test_what_no_longer_fits_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 10.0, 10.0, 71.0, 71.0])
    budget = Budget(100.0, lambda: next(times))
    assert budget.allows("first", 60.0)
    assert not budget.allows("second", 91.0)
    assert budget.left_out == ["second: about 91 s, 29 were left"]
    assert "left out: second" in capsys.readouterr().out


def test_the_floor_is_arithmetic_for_many_tokens_and_the_weights_for_few() -> None:
    assert MINILM.weights == 6 * (4 * 384**2 + 2 * 384 * 1536)
    rate, bandwidth = 1e12, 1e11
    assert floor(MINILM, 1, 1, rate, bandwidth, 2) == pytest.approx(MINILM.weights * 2 / bandwidth)
    operations = 2 * MINILM.weights * 4096 + 4 * 6 * 4096 * 128 * 384
    assert floor(MINILM, 32, 128, rate, bandwidth, 2) == pytest.approx(operations / rate)


def test_a_shape_is_read_from_the_models_config(tmp_path: Path) -> None:
    config = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "x": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_shape(tmp_path) == MINILM


def test_drivers_add_up() -> None:
    found = summed([(10.0, [0.1, 0.2], 0), (20.0, [0.3], 2)])
    assert found == Load(30.0, pytest.approx(200.0), pytest.approx(300.0), 2)


def test_texts_have_the_tokens_that_are_asked_for_and_differ(tmp_path: Path) -> None:
    words = {"[CLS]": 0, "##ing": 1, "Upper": 2, "river": 3, "clock": 4, "bread": 5, "é": 6}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    chosen = served.texts(tmp_path, 12, 50)
    assert {len(text.split()) for text in chosen} == {10}
    assert set(" ".join(chosen).split()) == {"river", "clock", "bread"}
    assert len(set(chosen)) > 40


@pytest.mark.parametrize(
    ("path", "cosine", "finite", "holds"),
    [
        ("torch bfloat16", 0.999, True, True),
        ("torch bfloat16", 0.9989, True, False),
        ("onnx float32", 0.9998, True, False),
        ("torch float16", 1.0, False, False),
    ],
)
def test_a_path_is_right_when_it_points_where_float32_does(
    path: str, cosine: float, finite: bool, holds: bool
) -> None:
    (found,) = command.judged_path(path, {"cosine": cosine, "finite": finite})
    assert found.ok is holds


def test_served_is_held_against_offline_in_the_same_precision() -> None:
    assert command.is_served("torch bfloat16", "auto", on_gpu=True)
    assert command.is_served("torch float32", "auto", on_gpu=False)
    assert command.is_served("onnx float16", "float16", on_gpu=True)
    assert not command.is_served("torch compiled bfloat16", "auto", on_gpu=True)


def test_the_highest_throughput_is_judged_by_its_share_and_its_idle_time() -> None:
    load = Load(900.0, 1.0, 2.0, 0)
    best = {32: Saturated(32, 1, 900.0, load, idle=0.2, resting=0.04, mean_batch=60.0)}
    assert [found.ok for found in command.judged_served(best, {32: 1000.0})] == [True, True]
    assert [found.ok for found in command.judged_served(best, {32: 1100.0})] == [False, True]
    assert [found.ok for found in command.judged_served(best, {})] == [True]


def test_a_path_that_fails_says_its_last_line(tmp_path: Path) -> None:
    why = paths.measure({"dtype": "none"}, ["--nonsense"], tmp_path / "log", 60.0)
    assert "--out" in why


def test_the_compiler_gets_what_time_is_left_once_all_else_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order = list[tuple[str, float]]()

    def measured(*given: object) -> tuple[None, str]:
        order.append((str(given[1]), float(str(given[-1]))))
        return None, "not here"

    monkeypatch.setattr(command, "gpu_name", lambda: "cpu")
    monkeypatch.setattr(command, "measure_path", measured)
    monkeypatch.setattr(command, "drivers", lambda count: contextlib.nullcontext())
    monkeypatch.setattr(command, "serve", lambda *given: order.append(("served", 0)))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    compiled = "torch compiled bfloat16"
    command.run(
        parser.parse_args(["--small", "--out", str(tmp_path), "--paths", compiled, "onnx float32"])
    )
    assert order == [("onnx float32", command.SMALL.path), ("served", 0), (compiled, math.inf)]


def test_the_command_takes_a_folder_for_the_model() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert parser.parse_args(["--model", "a/b", "--small"]).model == Path("a/b")
