"""What a runner reports of itself, and what it can do."""

from __future__ import annotations

import re

import pytest

from batcher.runner import Launcher, RunnerInfo
from tests.fakes import Echo


def test_facts_of_a_known_name_become_fields_and_all_others_details() -> None:
    facts = {
        "model": "own",
        "dimension": 8,
        "padding_free": True,
        "profile": [[1, 8, 0.5], (2, 16, 1)],
        "backend_failed": {"onnx": "no such operator"},
        "device": None,
        "licence": "MIT",
    }
    info = RunnerInfo.from_facts(facts)
    assert info == RunnerInfo(
        model="own",
        dimension=8,
        padding_free=True,
        profile=((1, 8, 0.5), (2, 16, 1.0)),
        backend_failed={"onnx": "no such operator"},
        details={"licence": "MIT"},
    )
    del facts["device"]
    assert info.facts() == {**facts, "profile": ((1, 8, 0.5), (2, 16, 1.0))}
    assert RunnerInfo.from_facts(info) is info
    assert RunnerInfo.from_facts(info.facts()) == info
    assert RunnerInfo().facts() == {}


@pytest.mark.parametrize(
    ("name", "fact", "expected"),
    [
        ("model", 7, "a str"),
        ("dimension", "384", "an int"),
        ("memory_bytes", 1.5, "an int"),
        ("padding_free", "yes", "a bool"),
        ("profile", "fast", "a list of"),
        ("profile", [[1, 8]], "a list of"),
        ("profile", [[1, 8, None]], "a list of"),
        ("backend_failed", ["onnx"], "a mapping"),
    ],
)
def test_a_fact_of_the_wrong_type_is_refused_by_its_name(
    name: str, fact: object, expected: str
) -> None:
    with pytest.raises(
        TypeError, match=f"^{name} must be {expected}.*, not {re.escape(repr(fact))}"
    ):
        RunnerInfo.from_facts({name: fact})


def test_a_runner_whose_launch_is_none_launches_nothing() -> None:
    class Maybe(Echo):
        launch: object = None

    runner = Maybe()
    assert not isinstance(runner, Launcher)
    runner.launch = lambda payloads: lambda: payloads
    assert isinstance(runner, Launcher)
