"""Claims about how checks judge and what they write."""

import json
from pathlib import Path

import pytest

from loadtests import processes, record
from loadtests.checks import sts
from loadtests.checks.finding import Finding, holds, table


def test_equal_values_share_the_mean_of_their_ranks():
    assert sts.spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert sts.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Ranks 1.5 1.5 3 against 1 2 3.
    assert sts.spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(0.8660254)


def test_pairs_without_a_score_are_skipped_and_quotes_are_text(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('\tno\tscore\n1.80\t"A ""b"\tc\n')
    assert sts.read_pairs(tmp_path) == [(1.8, '"A ""b"', "c")]


def test_only_what_is_judged_can_miss():
    reported, kept = (
        Finding("a", 1.0),
        Finding("b", 98.0, "/s", ideal=100.0, need=">= 0.97", ok=True),
    )
    missed = Finding("c", 3.0, "ms", ok=False)
    assert holds([reported, kept])
    assert not holds([reported, missed])
    lines = table([reported, kept, missed]).splitlines()
    assert lines[3] == "| b | 100 /s | 98 /s | 0.980 | >= 0.97 | holds |"
    assert "**missed**" in lines[4]


def test_record_names_no_folder_outside_the_project():
    shown = record.command_line(
        ["compare", "--sentences", "/somewhere/private/sts", "--seconds", "5"]
    )
    assert shown == "python -m loadtests compare --sentences …/sts --seconds 5"


def test_second_record_of_a_day_gets_a_number(tmp_path: Path):
    first = record.Record(tmp_path, "x", {"seconds": 5})
    first.finish("Title", "body", {"findings": [Finding("a", 1.0)]})
    assert record.Record(tmp_path, "x", {}).path.name == f"{first.path.name}-2"
    assert json.loads((first.path / "summary.json").read_text())["findings"][0]["what"] == "a"
    summary = (first.path / "summary.md").read_text()
    assert summary.startswith("# Title\n\nbody\n\n## How\n- command: `python -m loadtests")
    assert "- configuration: seconds 5" in summary


def test_record_of_a_run_that_never_began_leaves_nothing(tmp_path: Path):
    record.Record(tmp_path, "x", {})
    assert list(tmp_path.iterdir()) == []


def test_own_process_is_found_with_its_threads():
    import os

    pids = processes.tree(os.getpid())
    assert pids[0] == os.getpid()
    assert any(thread.is_main for thread in processes.threads(pids[:1]))
    assert processes.resident_bytes(pids[:1]) > 2**20
    assert processes.tree(2**22 + 1) == []
