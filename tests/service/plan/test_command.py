"""python -m service plan, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.plan.command import main

FAST = ["--seconds", "1", "--max-batch-size", "16", "--max-batch-tokens", "4096"]
SPEED = ["--fixed-ms", "5", "--per-item-ms", "0.5"]
ASKED = ["--rate", "500", "--p95-ms", "50"]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plan.command.SLICE", 1000)


def test_a_table_a_sentence_and_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *SPEED, *FAST]) == 0
    out, err = capsys.readouterr()
    for row in ("traffic", "speed", "replicas", "latency", "utilisation", "breaks", "simulated"):
        assert f"\n  {row:<12} " in f"\n{out}"
    assert "Run 1 replica: p95 is " in out
    assert "  export BATCHER_REPLICAS=1\n  export BATCHER_MAX_BATCH_SIZE=16\n" in out
    assert all(line.startswith("planning: ") for line in err.splitlines())


def test_json_is_all_that_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *SPEED, *FAST, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["replicas"] == answer["machines"] == 1
    assert answer["p50_ms"] < answer["p95_ms"] < answer["p99_ms"]
    assert answer["p95_ms"] <= 50
    assert 0 < answer["utilisation"] < 1
    assert answer["rate"] <= answer["rate_within_target"] <= answer["rate_breaks"]
    assert answer["environment"]["BATCHER_MAX_BATCH_SIZE"] == "16"


def test_it_plans_for_the_simulated_accelerator_as_it_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_RUNNER", "simulated")
    monkeypatch.setenv("BATCHER_SIM_FIXED_MS", "10")
    monkeypatch.setenv("BATCHER_SIM_PER_ITEM_MS", "1")
    monkeypatch.setenv("BATCHER_TARGET_LATENCY_MS", "80")
    monkeypatch.setenv("BATCHER_REPLICAS", "3")
    assert main(["--rate", "1500", *FAST, "--handoff-ms", "0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["target_p95_ms"] == 80
    assert answer["machines"] == 1  # of three replicas
    assert answer["rate_breaks"] == pytest.approx(answer["replicas"] * 16 / 0.026, rel=0.01)


def test_recorded_bursts_need_more_than_the_same_rate_spread_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = tmp_path / "bursts.csv"
    stamps = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0000000" for n in range(200)]
    recorded.write_text("TIMESTAMP,Tokens\n" + "".join(f"{s},8\n" * 100 for s in stamps))
    found = []
    for extra in ([], ["--arrivals", str(recorded)]):
        given = ["--replicas-per-machine", "64", "--json", *extra]
        main([*ASKED, *SPEED, *FAST, *given])
        found.append(json.loads(capsys.readouterr().out)["replicas"])
    assert found[1] > found[0]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_impossible_target_is_an_answer(
    form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--rate", "10", "--p95-ms", "6", *SPEED, *FAST, *form]) == 1
    out = capsys.readouterr().out
    assert "cannot be kept by any number of replicas" in out
    if form:
        assert json.loads(out)["kept"] is False


def test_too_few_replicas_end_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rate", "5000", "--p95-ms", "50", *SPEED, *FAST, "--replicas", "2"]) == 1
    assert "50 ms is not kept with 2 replicas" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--rate", "0"], "--rate: '0': must be a number from 0.001 to 1e9"),
        (["--rate", "-5"], "--rate: '-5': must be"),
        (["--rate", "nan"], "--rate: 'nan'"),
        (["--rate", "many"], "--rate: 'many'"),
        (["--p95-ms", "0"], "--p95-ms: '0'"),
        (["--rate", "1e-300"], "--rate: '1e-300': must be a number from 0.001 to 1e9"),
        (["--rate", "1e300"], "--rate: '1e300': must be a number from 0.001 to 1e9"),
        (["--p95-ms", "1e300"], "--p95-ms: '1e300': must be a number above 0, at most an hour"),
        (["--seconds", "inf"], "--seconds: 'inf'"),
        (["--seconds", "1e12"], "--seconds: '1e12': must be a number from 1 to 3600"),
        (["--overhead-ms", "-1"], "--overhead-ms: '-1': must be a number of at least 0"),
        (["--seed", "1.5"], "--seed: '1.5': must be a whole number"),
        (["--replicas-per-machine", "0"], "--replicas-per-machine: '0': must be a whole number"),
        (["--replicas", "0"], "--replicas='0': must be at least 1"),
        (["--max-batch-size", "x"], "--max-batch-size='x': must be a whole number"),
        (["--replicas", "5", "--replicas-per-machine", "2"], "--replicas 5: must be a multiple"),
        (["--lengths", "fixed:0"], "--lengths: 'fixed:0': in fixed:N, N '0' must be a whole"),
        (["--lengths", "fixed:0.2"], "N '0.2' must be a whole number from 1 to 65536"),
        (["--lengths", "fixed:1e300"], "N '1e300' must be a whole number from 1 to 65536"),
        (["--lengths", "lognormal:16:1:1e300"], "MAX '1e300' must be a whole number from 1 to"),
        (["--lengths", "lognormal:1e300:1"], "MEDIAN '1e300' must be a number from 1 to 65536"),
        (["--lengths", "lognormal:16:99"], "SIGMA '99' must be a number above 0, 10 at the most"),
        (["--lengths", "no-such-file"], "--lengths: 'no-such-file': cannot be read"),
        (["--arrivals", "no-such-file"], "--arrivals: 'no-such-file': cannot be read"),
        (["--plot", "plan.txt"], "--plot: 'plan.txt': must end in .png"),
        (["--plot", "no/such/folder.png"], "--plot: 'no/such/folder.png': there is no folder"),
        (["--fixed-ms", "0", "--per-item-ms", "0"], "--fixed-ms 0: a batch must take some time"),
        (["--colour", "red"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(
    typed: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended([*ASKED, *SPEED, *typed]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("batcher: ")
    assert told in line


def ended(arguments: list[str]) -> int:
    """The exit code, whoever ends it."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_no_target_and_no_rate_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--rate", "5", *SPEED]) == 2
    assert "--p95-ms is missing" in capsys.readouterr().err
    assert ended(["--p95-ms", "5", *SPEED]) == 2
    assert "--rate" in capsys.readouterr().err


def test_a_bad_variable_is_told_as_at_a_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_MAX_BATCHSIZE", "3")
    assert ended([*ASKED, *SPEED]) == 2
    assert "BATCHER_MAX_BATCHSIZE='3': there is no such setting" in capsys.readouterr().err


def test_without_matplotlib_a_plot_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert ended([*ASKED, *SPEED, "--plot", str(tmp_path / "plan.png")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--plot needs matplotlib: pip install matplotlib" in line


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plan.png"
    assert main([*ASKED, *SPEED, *FAST, "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plan_is_a_word_of_its_own_and_the_service_starts_as_before() -> None:
    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    planned = typed("plan", "--rate", "5", "--p95-ms", "1", *SPEED)
    assert (planned.returncode, planned.stdout.count("No plan: ")) == (1, 1)
    assert typed("--port", "8123", "--print-config").stdout.count("BATCHER_PORT=8123 (flag)") == 1
    assert typed("--plan").returncode == 2


def test_planning_needs_no_model_library() -> None:
    script = "import service.plan.command, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
