"""Claims about how checks judge and what they write."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from loadtests.baselines import forward
from loadtests.checks import isolation, sts
from loadtests.reports import record
from loadtests.reports.finding import Finding, holds, table
from loadtests.servers import procfs as processes


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
    pids = processes.tree(os.getpid())
    assert pids[0] == os.getpid()
    assert any(thread.is_main for thread in processes.threads(pids[:1]))
    assert processes.resident_bytes(pids[:1]) > 2**20
    assert processes.tree(2**22 + 1) == []


# The control of the isolation check.


def test_spinning_process_is_gone_however_its_block_ends():
    core = frozenset({min(os.sched_getaffinity(0))})
    seen: list[int] = []

    def fail_meanwhile() -> None:
        with isolation.spinning(core) as pid:
            seen.append(pid)
            assert os.sched_getaffinity(pid) == core
            assert processes.tree(pid) == [pid]
            raise RuntimeError("of the block")

    with pytest.raises(RuntimeError, match="of the block"):
        fail_meanwhile()
    assert processes.tree(seen[0]) == []


def test_control_alternates_and_is_never_judged(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    @contextlib.contextmanager
    def spinning(cpus: frozenset[int]):
        order.append("spin")
        yield 1
        order.append("rest")

    def bare_forward(text: str) -> float:
        order.append(text)
        return 3.0 if order[-2:-1] == ["spin"] else 2.0

    monkeypatch.setattr(isolation, "spinning", spinning)
    monkeypatch.setattr(isolation, "_bare_forward", bare_forward)
    found, times = isolation._control("text", repeats=2)
    assert order == ["text", "spin", "text", "rest"] * 2
    assert times == {"alone": [2.0, 2.0], "beside a busy core": [3.0, 3.0]}
    assert (found.measured, found.ok, found.need) == (1.5, None, "")
    assert holds([found])


def test_bare_forward_runs_one_text_as_often_as_asked():
    class Model:
        def __init__(self) -> None:
            self.seen: list[list[str]] = []

        def embed(self, texts: list[str]) -> None:
            self.seen.append(texts)

    model = Model()
    assert forward.p50_ms(model, "a text", 3) >= 0
    assert model.seen == [["a text"]] * 3
