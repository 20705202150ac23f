"""Claims about what the tuner tries, what it hands on, and what it says."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.__main__ import main
from loadtests.drivers.outcomes import Outcome, summarise
from loadtests.tune.bench import Seen as SeenRun
from loadtests.tune.bench import base_settings, shown
from loadtests.tune.candidates import Seen, alternatives
from loadtests.tune.planned import Prediction, read
from loadtests.tune.report import Tuned, answer, body, plot
from loadtests.tune.search import DEFAULT, Candidate, Look, judge

SIZE_8 = Candidate((("BATCHER_MAX_BATCH_SIZE", "8"),))
SEEN = Seen(max_batch_size=64, largest_batch=24, largest_tokens=1024, threads=1, cores=2)


def names(seen: Seen, quick: bool = False) -> list[str]:
    return [each.name for each in alternatives(seen, 50.0, quick)]


def test_one_setting_of_each_kind_comes_before_the_second_of_any():
    assert names(SEEN) == [
        "threads=2",
        "max_batch_tokens=512",
        "max_batch_size=16",
        "max_batch_tokens=128",
        "max_batch_size=4",
        "max_wait_ms=5",
    ]


def test_quick_tries_two():
    assert names(SEEN, quick=True) == ["threads=2", "max_batch_tokens=512"]


def test_what_could_not_bind_is_not_tried():
    lonely = Seen(max_batch_size=64, largest_batch=1, largest_tokens=None, threads=None, cores=8)
    assert names(lonely) == ["max_wait_ms=5"]


def test_a_size_that_was_reached_may_be_too_low():
    full = dataclasses.replace(SEEN, largest_batch=64, largest_tokens=None)
    assert "max_batch_size=128" in names(full)


def test_threads_in_force_are_not_tried_again():
    assert "threads=4" in names(dataclasses.replace(SEEN, cores=8, threads=7))
    all_of_them = names(dataclasses.replace(SEEN, cores=2, threads=2))
    assert [name for name in all_of_them if "threads" in name] == ["threads=1"]


def test_settings_of_the_environment_are_kept_but_for_what_is_tuned_or_in_the_way(monkeypatch):
    monkeypatch.delenv("BATCHER_CACHE_DIR", raising=False)  # Set for all tests.
    monkeypatch.setenv("BATCHER_MODEL", "/models/mine")
    for name in ("MAX_BATCH_SIZE", "PORT", "API_KEY", "CACHE_BYTES", "LOADTEST_SENTENCES"):
        monkeypatch.setenv(f"BATCHER_{name}", "8")
    base = base_settings("simulated", None)
    assert base == {
        "BATCHER_MODEL": "/models/mine",
        "BATCHER_RUNNER": "simulated",
        "BATCHER_DRAIN_DELAY_MS": "0",
    }
    assert shown(base)["BATCHER_MODEL"] == "…/mine"


def test_the_planners_answer_or_its_reason():
    said = json.dumps({"p95_ms": 41.5, "rate_within_target": 310.0})
    assert read(said, "") == Prediction(41.5, 310.0)
    assert read('{"kept": false, "reason": "too slow alone"}', "") == "too slow alone"
    overloaded = '{"p95_ms": null, "rate_within_target": 206.0}'
    assert read(overloaded, "") == Prediction(float("inf"), 206.0)
    assert read("", "planning\nbatcher: no profile yet") == "batcher: no profile yet"


def run(candidate: Candidate, rate: float, p95_ms: float) -> SeenRun:
    one = Outcome(0.0)
    one.sent, one.answered, one.status = 0.0, p95_ms / 1e3, "200"
    return SeenRun(candidate.name, rate, 1, 1.0, summarise([one], 0, 1), 1)


def tuned(default_limit: float, other_limit: float) -> Tuned:
    final = {
        DEFAULT: [[Look(90, 45, 99), Look(110, 50 * 110 / default_limit, 99)]] * 3,
        SIZE_8: [[Look(90, 45, 99), Look(110, 50 * 110 / other_limit, 99)]] * 3,
    }
    pairs = [(candidate, look) for candidate, looks in final.items() for look in looks[0]]
    return Tuned(
        50.0,
        {candidate: looks[0] for candidate, looks in final.items()},
        [run(candidate, look.rate, look.p95_ms) for candidate, look in pairs],
        {"BATCHER_MAX_BATCH_SIZE": 64},
        rates=[90, 110],
        final=final,
        verdict=judge(SIZE_8, final, 50.0),
        predictions={(DEFAULT, 90): Prediction(36.0, 99.0), (SIZE_8, 90): Prediction(42.0, 105.0)},
    )


def test_a_winner_is_told_as_variables_to_set():
    said = answer(tuned(default_limit=95, other_limit=108))
    assert "export BATCHER_MAX_BATCH_SIZE=8" in said
    assert "up to 107/s, the defaults up to 97.9/s" in said


def test_equals_are_told_as_nothing_to_set():
    said = answer(tuned(default_limit=100, other_limit=100))
    assert "export" not in said
    assert "Nothing to set" in said


def test_the_prediction_stands_beside_the_measurement():
    assert "| 90 | default | 45 (45 to 45) | 36.0 | 0.80 |" in body(tuned(100, 100))
    assert "Planned limits: default 99/s, max_batch_size=8 105/s." in body(tuned(100, 100))


def test_a_planned_overload_has_no_ratio():
    found = tuned(100, 100)
    found.predictions[DEFAULT, 110] = Prediction(float("inf"), 99.0)
    assert "| 110 | default | 55 (55 to 55) | without end |  |" in body(found)


def test_the_plot_is_drawn(tmp_path: Path):
    plot(tmp_path / "results" / "tune.png", tuned(95, 108))
    assert (tmp_path / "results" / "tune.png").stat().st_size > 10_000


def test_who_never_kept_the_target_is_not_given_a_rate():
    found = tuned(100, 100)
    found.looks[DEFAULT] = []
    found.final[DEFAULT] = [[Look(90, 60, 99), Look(110, 80, 99)]] * 3
    found.verdict = judge(SIZE_8, found.final, 50.0)
    assert "the defaults at no rate that was tried" in answer(found)


def tune(tmp_path: Path, *arguments: str, fixed_ms: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests", "tune", "--runner=simulated", "--quick"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    return subprocess.run(
        [*command, f"--out={tmp_path}", *arguments],
        env=kept | {"BATCHER_SIM_FIXED_MS": fixed_ms},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_target_that_one_request_alone_exceeds_is_refused(tmp_path: Path):
    told = tune(tmp_path, "--p95-ms=20", fixed_ms="40")
    assert told.returncode == 1, told.stderr
    assert "one request alone takes" in told.stdout


@pytest.mark.parametrize("wrong", [["--p95-ms=soon"], [], ["--p95-ms=50", "--runner=a b"]])
def test_a_wrong_argument_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: list[str],
):
    monkeypatch.setattr("loadtests.__main__.signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["loadtests", "tune", "--quick", f"--out={tmp_path}", *wrong])
    code: object = None
    try:
        code = main()
    except SystemExit as end:  # of argparse
        code = end.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
