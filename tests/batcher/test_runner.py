"""What a runner reports of itself, and what it can do."""

from __future__ import annotations

import re

import pytest

from batcher.runner import InfoChanges, Launcher, RunnerInfo
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


def test_a_change_of_the_facts_is_reported_once_and_whole() -> None:
    class Changes(Echo):
        news: object = ["of the user's own"]

    runner = Changes()
    info = RunnerInfo(pid=7, padding_free=True)
    changes = InfoChanges(runner, info)
    assert changes.next() is None
    runner.news = {"backend": "torch", "padding_free": None}
    assert [changes.next(), changes.next()] == [RunnerInfo(pid=7, backend="torch"), None]
    runner.news = {"dtype": "float32", "seed": 1}
    assert changes.next() == RunnerInfo(
        pid=7, backend="torch", dtype="float32", details={"seed": 1}
    )
    assert InfoChanges(Echo(), info).next() is None


def test_a_change_to_the_wrong_type_is_logged_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Changes(Echo):
        news: object = None

    runner = Changes()
    changes = InfoChanges(runner, RunnerInfo())
    runner.news = {"dimension": "384"}
    assert [changes.next(), changes.next()] == [None, None]
    assert caplog.messages == [
        "ignoring changed facts of the runner: dimension must be an int, not '384'"
    ]


def test_a_runner_whose_launch_is_none_launches_nothing() -> None:
    class Maybe(Echo):
        launch: object = None

    runner = Maybe()
    assert not isinstance(runner, Launcher)
    runner.launch = lambda payloads: lambda: payloads
    assert isinstance(runner, Launcher)
