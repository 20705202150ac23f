from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from batcher.runner import Runner
from service.models import RunnerConfig
from service.models.config import SimulatedConfig
from service.models.create import create_runner
from service.models.own.find import RunnerNotFound
from service.models.own.runner import ModelRunner
from service.models.rows import NotFinite
from service.models.simulated import SimulatedFault, SimulatedRunner, answers, count_words
from service.tasks.plain_text import SIMULATED_VOCAB, SimulatedTokenizer
from service.tasks.sparse import Sparse
from tests.service.configs import runner_config


def simulated(fixed: float = 0, per_item: float = 0, per_token: float = 0) -> SimulatedRunner:
    runner = SimulatedRunner(SimulatedConfig(fixed, per_item, per_token))
    runner.warm_up()
    return runner


def test_an_answer_is_a_function_of_its_text_alone() -> None:
    texts = ["", "one", "two words", "ünï\u2028code", "one"]
    batched = np.asarray(simulated().run(texts))
    assert batched.shape == (5, 8)
    assert batched.dtype == np.float32
    for text, vector in zip(texts, batched, strict=True):
        np.testing.assert_array_equal(vector, simulated().run([text])[0])
    assert len({vector.tobytes() for vector in batched}) == 4


def test_the_answer_is_the_eight_words_of_the_hash_in_the_unit_cube() -> None:
    words = np.frombuffer(hashlib.sha256(b"one").digest(), dtype=">u4")
    np.testing.assert_allclose(answers(["one"])[0], words / 2**31 - 1, atol=1e-6)
    many = answers([str(i) for i in range(1000)])
    assert np.abs(many).max() <= 1
    assert abs(many.mean()) < 0.05


@pytest.mark.parametrize(("task", "width"), [("classify", 3), ("score", 1), ("predict", 8)])
def test_a_task_with_labels_is_answered_with_a_number_for_each(task: str, width: int) -> None:
    runner = SimulatedRunner(SimulatedConfig(0, 0, 0), task)
    pair = SimulatedTokenizer().prepare_pair("a query", "one document")
    assert pair.cost == 4 == count_words(str(pair.payload))
    got = np.asarray(runner.run([pair.payload]))
    np.testing.assert_array_equal(got, answers([str(pair.payload)])[:, :width])
    assert runner.warm_up().get("dimension") == (None if task != "predict" else 8)


def test_a_sparse_answer_has_the_size_of_each_number() -> None:
    runner = SimulatedRunner(SimulatedConfig(0, 0, 0), "sparse")
    good, bad = runner.run(["one", "fault:nan"])
    assert isinstance(bad, NotFinite)
    found = Sparse(SimulatedTokenizer(), SIMULATED_VOCAB).result(good)
    np.testing.assert_array_equal(found.weights, np.abs(answers(["one"])[0]))


def test_a_document_may_ask_for_a_drill() -> None:
    pair = SimulatedTokenizer().prepare_pair("a query", "fault:raise now")
    with pytest.raises(SimulatedFault):
        SimulatedRunner(SimulatedConfig(0, 0, 0), "score").run([pair.payload])


def test_a_batch_takes_fixed_and_per_item_and_per_padded_token() -> None:
    runner = simulated(fixed=2, per_item=3, per_token=100)
    assert runner.duration(["one two three four", "one"]) == pytest.approx(2e-3 + 6e-3 + 8e-4)
    assert runner.duration(["", ""]) == pytest.approx(2e-3 + 6e-3 + 2e-4)


def test_the_time_is_kept_from_the_moment_run_is_entered() -> None:
    runner = simulated(fixed=5, per_item=0.1)
    texts = [f"text {i}" for i in range(20)]
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        runner.run(texts)
        taken.append(time.perf_counter() - started)
    assert min(taken) >= 7e-3
    assert min(taken) <= 7.5e-3  # the quickest: a busy machine may delay any one of them


def test_a_batch_that_is_launched_while_one_runs_begins_when_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not when its results are asked for: the process may be late without the device idling."""
    now, slept = 100.0, list[float]()
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    runner = simulated(fixed=20)
    first, second = runner.launch(["a"]), runner.launch(["b"])
    np.testing.assert_array_equal(np.asarray(first()), answers(["a"]))
    now = 100.025  # late by 5 ms, of which the device has used every one
    second()
    now = 100.050
    third = runner.launch(["c"])
    third()
    assert slept == pytest.approx([0.020, 0.015, 0.020])


def test_no_time_at_all_means_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sleep(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s")

    runner = simulated()
    monkeypatch.setattr(time, "sleep", no_sleep)
    assert len(runner.run(["one", "two"])) == 2
    assert len(runner.run([])) == 0


def test_fault_raise_fails_the_batch() -> None:
    with pytest.raises(SimulatedFault):
        simulated().run(["fine", "fault:raise 17"])


def test_fault_oom_needs_more_than_four_inputs() -> None:
    texts = ["fault:oom", "a", "b", "c"]
    assert len(simulated().run(texts)) == 4
    with pytest.raises(MemoryError, match="a batch of 5 inputs"):
        simulated().run([*texts, "d"])


def test_fault_nan_fails_its_own_input_only() -> None:
    fine, bad = simulated().run(["fine", "fault:nan"])
    assert isinstance(bad, NotFinite)
    np.testing.assert_array_equal(fine, answers(["fine"])[0])


def test_an_unknown_drill_is_an_ordinary_text() -> None:
    text = "fault:of mine"
    np.testing.assert_array_equal(simulated().run([text]), answers([text]))


def drill(text: str) -> subprocess.Popen[bytes]:
    program = (
        "from service.models.config import ModelConfig, RunnerConfig\n"
        "from service.models.create import create_runner\n"
        "runner = create_runner('simulated', RunnerConfig(ModelConfig('m')))\n"
        f"print('running', flush=True); runner.run(['fine', {text!r}]); print('answered')"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)


def test_fault_exit_ends_the_process_at_once() -> None:
    process = drill("fault:exit")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"answered" not in out


def test_fault_hang_never_returns() -> None:
    with drill("fault:hang") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        process.kill()


# Runners by name.


def shout(payloads: list[str]) -> list[str]:
    return [text.upper() for text in payloads]


class Upper:
    """As a reader of the README writes it: three methods and no constructor."""

    def warm_up(self) -> dict[str, object]:
        return {"model": "upper"}

    def run(self, payloads: Sequence[str]) -> list[str]:
        return [text.upper() for text in payloads]

    def close(self) -> None:
        pass


class Derived(Runner):
    """A Protocol gives it a constructor of `*args`, which takes none."""

    def warm_up(self) -> dict[str, object]:
        return {}

    def run(self, payloads: Sequence[str]) -> Sequence[str]:
        return payloads

    def close(self) -> None:
        pass


class Own(Upper):
    def __init__(self, config: RunnerConfig) -> None:
        self.config = config


class OptionsOnly(Upper):
    def __init__(self, *, suffix: str = "!") -> None:
        self.suffix = suffix


def test_a_users_function_becomes_a_runner() -> None:
    runner = create_runner(f"{__name__}:shout", runner_config("any"))
    assert isinstance(runner, ModelRunner)
    facts = runner.warm_up()
    assert isinstance(facts, dict)
    assert (facts["model"], facts["is_function"]) == (f"{__name__}:shout", True)
    assert runner.run(("a", "b")) == ["A", "B"]
    runner.close()


def test_a_users_class_is_given_the_config() -> None:
    config = runner_config("any", replica=1)
    runner = create_runner(f"{__name__}:Own", config)
    assert isinstance(runner, Own)
    assert runner.config is config


@pytest.mark.parametrize("kind", [Upper, Derived, OptionsOnly])
def test_a_users_class_that_takes_no_argument_is_given_none(kind: type) -> None:
    runner = create_runner(f"{__name__}:{kind.__name__}", runner_config("any"))
    assert type(runner) is kind


def test_the_readmes_class_runs_by_its_name() -> None:
    runner = create_runner(f"{__name__}:Upper", runner_config("any"))
    assert runner.warm_up() == {"model": "upper"}
    assert runner.run(["a", "b"]) == ["A", "B"]
    runner.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vllm", "unknown runner 'vllm': write transformers, simulated or package.module:Name"),
        (":Name", "unknown runner"),
        ("no_such_module:Name", "there is no module no_such_module, neither in this folder"),
        ("service.models:Nothing", "module service.models has no 'Nothing'"),
        ("service.models.rows:__doc__", "neither a class nor a function"),
        ("threading:Event", "the class has no predict, which a Model needs; a Runner has"),
        ("tests.service.exits:run", r"failed: SystemExit: usage: exits.py FILE .*, line 3\)"),
    ],
)
def test_a_runner_that_is_none_says_why_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(RunnerNotFound, match=reason) as caught:
        create_runner(name, runner_config("any"))
    assert "\n" not in str(caught.value)


def test_the_factory_crosses_to_the_worker() -> None:
    factory = pickle.loads(pickle.dumps(partial(create_runner, "simulated", runner_config("m"))))
    assert isinstance(factory(), SimulatedRunner)
