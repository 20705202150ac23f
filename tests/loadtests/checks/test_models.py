"""Legal combinations of a model's files, of settings and of options, against the reference library.

A few of those that `python -m loadtests check models` draws and sweeps through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from loadtests.checks.models import draws, sweep, trial
from loadtests.checks.models.case import Case
from loadtests.checks.models.check import TASKS
from loadtests.checks.models.distance import Distance, Wrong
from loadtests.checks.models.served import models_are_read_here
from loadtests.models import folders
from loadtests.models.folder import Folder
from tests.conftest import EFFORT
from tests.service.tiny import read_spec

FEW = 10  # texts in one request


@pytest.fixture(autouse=True, scope="module")
def _here() -> Iterator[None]:
    with models_are_read_here():
        yield


@settings(max_examples=3 * EFFORT**2, suppress_health_check=list(HealthCheck))
@given(draws.cases(TASKS))
def test_what_files_may_say_is_answered_as_the_reference_does_or_refused(case: Case) -> None:
    came = trial.attempt(dataclasses.replace(case, count=FEW))
    assert came.word in ("same", "refused"), f"{case.describe()}: {came.why}"


def test_a_folder_of_old_names_is_answered_as_the_reference_does() -> None:
    said = sweep.ODD["names of version 2, in a folder of its own"]
    folder = Folder(kind="modernbert", **said)
    came = trial.attempt(Case(folder, {"backend": "torch"}, count=FEW))
    assert came.word == "same", came.why
    assert came.share <= 1


def test_a_classifier_whose_tokenizer_adds_no_token_is_not_asked_for_an_empty_text(
    tmp_path: Path,
) -> None:
    folder = folders.make(Folder(task="score", kind="llama", ends=False), tmp_path)
    assert read_spec(folder).task == "score"


def test_the_sweep_has_six_architectures_of_each_task() -> None:
    swept = sweep.cases(TASKS, ("torch", "onnx"))
    for task in TASKS:
        assert len({case.folder.kind for case in swept if case.folder.task == task}) >= 6
    backends = {case.settings.get("backend", "auto") for case in swept}
    assert backends >= {"torch", "onnx"}


def test_what_is_too_far_apart_is_wrong(tmp_path: Path) -> None:
    found = Distance()
    found.add("/embed", [1.0, 2.0], [1.0, 2.0001])
    assert 0.3 < found.share < 1
    for other in ([1.0, 2.001], [1.0, np.nan], [1.0]):
        with pytest.raises(Wrong, match="/embed"):
            found.add("/embed", other, [1.0, 2.0])
