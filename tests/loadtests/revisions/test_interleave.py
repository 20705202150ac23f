"""Claims about the comparison of two checkouts; the commands are fakes in temporary checkouts."""

import json
import math
import re
from pathlib import Path

import pytest

from loadtests import __main__ as loadtests
from loadtests.revisions.interleave import compare, direction, figures, in_turn, slower, table

# Records the figures that its checkout's rates.txt has for this run, and says that it ran.
FAKE = """
import json, pathlib, sys
here = pathlib.Path.cwd()
with (here.parent / "order").open("a") as order:
    order.write(here.name + " " + " ".join(sys.argv[1:-4]) + "\\n")
rates = (here / "rates.txt").read_text().split()
(here / "rates.txt").write_text(" ".join(rates[1:]))
if rates[0] == "none":
    sys.exit("no server")
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1]) / sys.argv[sys.argv.index("--name") + 1]
out.mkdir(parents=True)
line = {"what": "rate (of 8)", "measured": float(rates[0]), "unit": "/s", "need": "", "ok": False}
(out / "summary.json").write_text(json.dumps({"findings": [line]}))
(out / "facts.json").write_text(json.dumps({"commit": "commit-of-" + here.name}))
sys.exit(1)
"""


def checkout(folder: Path, *rates: object) -> str:
    (folder / "loadtests").mkdir(parents=True)
    (folder / "loadtests" / "__init__.py").touch()
    (folder / "loadtests" / "__main__.py").write_text(FAKE)
    (folder / "rates.txt").write_text(" ".join(map(str, rates)))
    return str(folder)


def interleave(
    monkeypatch: pytest.MonkeyPatch, out: Path, old: str, new: str, *options: str
) -> int:
    words = ["check", "front", "--seconds", "1"]
    arguments = ["interleave", old, new, *options, "--out", str(out), "--", *words]
    monkeypatch.setattr("sys.argv", ["loadtests", *arguments])
    return loadtests.main()


def test_each_checkout_runs_its_own_code_in_a_balanced_order(monkeypatch, tmp_path: Path):
    old, new = checkout(tmp_path / "old", 100, 50, 200), checkout(tmp_path / "new", 99, 50, 198)
    out = tmp_path / "results"
    assert interleave(monkeypatch, out, old, new) == 0
    ran = (tmp_path / "order").read_text().splitlines()
    order = ("old", "new", "new", "old", "old", "new")
    assert ran == [f"{side} check front --seconds 1" for side in order]
    [folder] = out.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["old"], summary["new"]) == ("commit-of-old", "commit-of-new")
    assert (
        "| rate | more | 100 /s | 99 /s | 0.990 | 0.990, 1.000, 0.990 |"
        in (folder / "summary.md").read_text()
    )
    assert {path.name for path in Path(old).iterdir()} == {"loadtests", "rates.txt"}


def test_slower_code_fails_and_the_bound_can_be_chosen(monkeypatch, tmp_path: Path):
    rates = (100, 100, 100), (90, 96, 99)
    for bound, status in (("0.97", 1), ("0.95", 0)):
        old, new = (
            checkout(tmp_path / bound / name, *these)
            for name, these in zip(("old", "new"), rates, strict=True)
        )
        assert interleave(monkeypatch, tmp_path, old, new, "--at-least", bound) == status


def test_command_without_figures_is_an_error_not_a_ratio(monkeypatch, tmp_path: Path, capsys):
    old, new = checkout(tmp_path / "old", 100), checkout(tmp_path / "new", "none")
    assert interleave(monkeypatch, tmp_path, old, new, "--rounds", "1") == 2
    assert "no server" in capsys.readouterr().err


def test_bound_says_which_way_is_better_else_the_unit():
    assert [direction("%", "<= 1"), direction("x", ">= 0.55"), direction("/s", "")] == [-1, 1, 1]
    assert [direction("ms", ""), direction("ms", "the first"), direction("", "")] == [-1, -1, None]


def test_ratio_of_what_should_be_small_is_old_over_new():
    [one] = compare([_run("p50", 10.0, "ms")], [_run("p50", 20.0, "ms")])
    assert one.ratio == 0.5
    assert slower([one], 0.97, re.compile("")) == ["p50: 0.500 is below 0.97"]
    assert slower([one], 0.97, re.compile("p95")) == ["no figure is judged"]


def test_figure_that_one_run_lacks_fails_and_one_that_is_not_positive_has_no_ratio():
    missing, zero = compare(
        [_run("rate", 5.0, "/s") | _run("idle", 0.0, "ms")], [_run("idle", 1.0, "ms")]
    )
    assert slower([missing], 0.97, re.compile("")) == ["rate: not measured in every run"]
    assert math.isnan(zero.ratio)
    assert slower([zero], 0.97, re.compile("")) == []
    assert "nan" in table([missing, zero])


def test_order_alternates():
    assert [in_turn(number, ("A", "B")) for number in range(3)] == [
        ("A", "B"),
        ("B", "A"),
        ("A", "B"),
    ]


def _run(name: str, value: float, unit: str):
    return figures({"findings": [{"what": name, "measured": value, "unit": unit, "need": ""}]})
