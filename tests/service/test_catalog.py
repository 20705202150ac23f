from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from batcher.runner import RunnerInfo
from service.catalog import TASKS, own_model, simulated_model
from service.repository.spec import ModelNotSupported
from service.settings import Settings
from service.tasks.plain_text import SimulatedTokenizer, TextPassthrough


def test_the_setting_takes_the_name_of_every_task_there_is() -> None:
    assert get_args(Settings.model_fields["task"].annotation) == ("auto", *TASKS)


@pytest.mark.parametrize(
    ("task", "tasks"),
    [("auto", {"embed", "predict"}), ("embed", {"embed"}), ("predict", {"predict"})],
)
def test_a_runner_of_the_users_own_is_for_what_the_setting_says(task: str, tasks: set[str]) -> None:
    served = own_model("my.module:Runner", task, TextPassthrough(), created=0)
    assert set(served.tasks) | set(served.if_class) == tasks
    assert set(served.decided(RunnerInfo()).tasks) == tasks
    model = RunnerInfo(details={"is_model": True})
    assert set(served.decided(model).tasks) == tasks - {"embed"} or task == "embed"


@pytest.mark.parametrize("task", ["auto", "embed", "classify", "score"])
def test_the_simulated_accelerator_is_for_what_the_setting_says(task: str) -> None:
    served = simulated_model("simulated", task, SimulatedTokenizer(), created=0)
    assert list(served.tasks) == [task if task != "auto" else "embed"]
    assert served.canary().cost == 1


@pytest.mark.parametrize("task", ["tag", "predict"])
def test_the_simulated_accelerator_answers_no_vectors_for_another_task(task: str) -> None:
    with pytest.raises(ModelNotSupported, match=f"BATCHER_TASK={task}: the simulated"):
        simulated_model("simulated", task, SimulatedTokenizer(), created=0)


def test_a_runner_of_the_users_own_is_no_classifier() -> None:
    with pytest.raises(ModelNotSupported, match="BATCHER_TASK=classify"):
        own_model("my.module:Runner", "classify", TextPassthrough(), created=0)


def test_a_model_is_known_by_its_name_and_by_the_last_part_of_it() -> None:
    served = own_model("folder/of/mine/", "auto", TextPassthrough(), created=0)
    assert served.aliases == {"folder/of/mine/", "mine"}
    named = dataclasses.replace(served, name="a/b", more_names=["c"])
    assert (named.names, named.aliases) == (("a/b", "c"), {"a/b", "b", "c"})
