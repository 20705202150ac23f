"""What README.md and docs/ name is there: files, links, headings, settings, metrics, results."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from batcher.collector import Collector
from batcher.limits import Limits
from batcher.request import CloseReason
from batcher.snapshot import HistogramSnapshot, StageSnapshot
from service.arguments import default_of
from service.observability.prometheus import exposition
from service.settings import PREFIX, Settings
from tests.docs.blocks import PAGES, ROOT
from tests.fakes import FakeClock

README_LINES = 250
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_GPU = "batcher_gpu_"  # only where there is one


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def test_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:batcher|service|loadtests|tests|docs|deploy)/[\w./-]*)", prose(page))
    missing = [path for path in named if not (ROOT / path).exists() and "NAME" not in path]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"\b{PREFIX}([A-Z][A-Z_]+[A-Z])\b", page.read_text(encoding="utf-8"))
    unknown = {name for name in named if name.lower() not in Settings.model_fields}
    assert {name for name in unknown if not name.startswith("LOADTEST_")} == set()


def test_the_defaults_in_readme_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| (`BATCHER_.*?) \| (.*?) \|", prose(ROOT / "README.md"), re.MULTILINE)
    assert len(rows) > 9
    for variables, defaults in rows:
        names = re.findall(r"BATCHER_(\w+)", variables)
        for name, default in zip(names, defaults.split(", "), strict=True):
            full = default_of(name.lower()) or "unset"
            assert full.startswith(default) or full.endswith(f"/{default}"), name


def test_metrics_that_are_named_exist() -> None:
    nothing = HistogramSnapshot((), (0,), 0.0)
    stage = StageSnapshot(0, 0, 0, nothing, nothing)
    snapshot = replace(Collector(Limits(), FakeClock()).snapshot(), stages={"preprocess": stage})
    page = exposition(snapshot, {}, {0: True}, "0", "m").decode()
    there = set(re.findall(r"^# HELP (\w+)", page, re.MULTILINE))
    for document in PAGES:
        for name in re.findall(r"`(batcher_\w+)", prose(document)):
            assert name in there or name.startswith(_GPU), f"{document.name}: {name}"


def test_scheduling_explains_each_reason_for_which_a_batch_closes() -> None:
    text = prose(ROOT / "docs/scheduling.md")
    assert [reason for reason in get_args(CloseReason) if f"`{reason}`" not in text] == []


def test_each_run_in_results_is_listed_by_its_claim() -> None:
    index = (ROOT / "results/README.md").read_text(encoding="utf-8")
    runs = [folder.name for folder in (ROOT / "results").iterdir() if folder.is_dir()]
    assert [run for run in runs if f"({run}/" not in index] == []
