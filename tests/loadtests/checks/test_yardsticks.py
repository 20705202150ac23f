"""Claims about how the yardsticks judge. What is measured here was computed, with no server."""

import argparse
import asyncio
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from loadtests.baselines.pickup import PickUp, _settle
from loadtests.checks.yardsticks import closed, command, linger, policies, queueing
from loadtests.checks.yardsticks.bench import ACCELERATOR, Bench, Poisson, Sizes, unanswered
from loadtests.checks.yardsticks.borrowed import BORROWED, Borrowed
from loadtests.drivers import arrivals
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import Outcome
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.theory.queueing import take_all, usual_loop
from service.models.config import SimulatedConfig
from service.models.simulated import SimulatedRunner

OVERHEAD = 0.002


def outcome(scheduled: float, latency: float, timing: bytes = b"", status: str = "200") -> Outcome:
    made = Outcome(scheduled)
    made.sent, made.answered = scheduled, scheduled + latency
    made.timing, made.status = timing, status
    return made


SECONDS = 240.0


def played(
    rho: float, serve: Callable[[Sequence[float]], np.ndarray], seed: int = 1, batch: float = 0
) -> Poisson:
    """A run in which each request took what `serve` says."""
    rate = rho * ACCELERATOR.capacity
    times = arrivals.poisson(rate, SECONDS, seed).tolist()
    sizes = b"size=%d" % round(batch) if batch else b""
    outcomes = [
        outcome(at, latency, sizes) for at, latency in zip(times, serve(times), strict=True)
    ]
    return Poisson(rho, rate, times, Run(outcomes, 0.0, SECONDS))


def ideal(times: Sequence[float]) -> np.ndarray:
    return take_all(times, ACCELERATOR) + OVERHEAD


def usual(times: Sequence[float]) -> np.ndarray:
    return usual_loop(times, ACCELERATOR, max_wait=0.020).latencies + OVERHEAD


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_take_all_with_the_overhead_alone_holds_at_every_load(rho):
    run = played(rho, ideal)
    assert queueing.mean(run, OVERHEAD).ok
    assert [finding.ok for finding in queueing.percentiles(run, OVERHEAD)] == [True, True, None]


def test_mean_is_free_of_the_luck_of_the_arrivals():
    few = [played(0.9, ideal, seed) for seed in range(2)]
    corrected = [queueing.mean(run, OVERHEAD).measured for run in few]
    assert np.ptp(corrected) < 1e-6 < np.ptp([run.latencies.mean() for run in few])


def test_wait_counted_from_pick_up_misses_mean_percentiles_and_identity():
    run = played(0.5, usual, batch=6)
    assert queueing.mean(run, OVERHEAD).ok is False
    assert [finding.ok for finding in queueing.percentiles(run, OVERHEAD)][:2] == [False, False]
    assert queueing.same_as_its_batches(run, OVERHEAD).ok is False


def test_identity_holds_for_take_all_at_its_own_mean_batch():
    run = played(0.5, ideal, batch=6)  # 6.16 in the long run.
    found = queueing.same_as_its_batches(run, OVERHEAD)
    assert found.ok
    assert found.ratio == pytest.approx(1, abs=0.03)


def test_bound_of_the_gap_is_three_tenths_of_a_millisecond_and_a_hundredth_of_a_full_batch():
    for gap, good in ((0.0023, True), (0.0025, False)):
        bench = bench_that_measured(saturation=32 / (0.210 + gap))
        found = queueing.y1(bench)[1]
        assert found.ok is good
        assert found.measured == pytest.approx(gap * 1e3)


def bench_that_measured(**figures: float) -> Bench:
    bench = Bench(Record(Path("nowhere"), "none", {}), Sizes())
    bench.__dict__.update(figures)  # Where cached properties keep what they measured.
    return bench


def test_turnaround_is_what_is_left_of_a_cycle_without_the_server():
    cycles = [outcome(at, 0.080, b"total;dur=77.000") for at in (1.0, 2.0, 3.0)]
    warm = [outcome(0.0, 0.5, b"total;dur=1.000")]
    lost = [outcome(2.5, 9.0, b"total;dur=1.000", status="lost")]
    assert closed.turnaround(Run(warm + cycles + lost, 0.0, 4.0), 0.9) == pytest.approx(0.003)


def test_no_answer_has_no_turnaround():
    with pytest.raises(RuntimeError, match="no request was answered"):
        closed.turnaround(Run([], 0.0, 1.0), 0.0)


def test_reason_of_a_batch_is_read_from_the_answer():
    assert outcome(0, 1, b'batch;desc="size=3 tokens=9 reason=regroup"').batch_reason == "regroup"
    assert outcome(0, 1).batch_reason == ""


def test_request_without_its_200_is_a_miss():
    good, bad = outcome(0, 1), outcome(0, 1, status="429")
    assert unanswered("x", Run([good], 0, 1)) == []
    (found,) = unanswered("x", Run([good, bad], 0, 1))
    assert (found.measured, found.ok) == (1, False)


def test_lingering_costs_the_policy_at_most_a_hundredth_on_poisson_arrivals():
    for rho in (0.1, 0.5, 0.9):
        times = arrivals.poisson(rho * ACCELERATOR.capacity, 60, seed=2).tolist()
        best = float(take_all(times, ACCELERATOR).mean())
        # Who knew every arrival to come could save an eighth; nobody can save more.
        assert 0.875 * best <= linger.policy_mean(times) <= 1.01 * best


# The baselines.


def test_patterns_have_the_same_rate_and_traces_come_from_the_folder(tmp_path: Path):
    stamps = "\n".join(f"2023-11-16 18:15:{second}.5000000,1" for second in range(10, 50))
    (tmp_path / "trace.csv").write_text(f"TIMESTAMP,x\n{stamps}\n")
    found = policies.patterns(bench_that_measured(), tmp_path)
    assert list(found) == ["Poisson", "bursts", "trace"]
    assert {len(times) for times in found.values()} <= set(range(2000, 2600))


def test_folder_without_traces_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no \*\.csv files"):
        policies.patterns(bench_that_measured(), tmp_path)


def test_usual_loop_takes_what_waits_even_when_its_time_is_over():
    loop = PickUp(SimulatedRunner(SimulatedConfig()), max_batch=3, max_wait=0.0)

    async def collect() -> list[list[str]]:
        for text in "0123":
            loop.waiting.put((text, asyncio.get_running_loop().create_future()))
        return [[text for text, _ in loop._collect()] for _ in range(2)]

    assert asyncio.run(collect()) == [["0", "1", "2"], ["3"]]


def test_caller_of_the_usual_loop_who_left_does_not_cost_the_others_their_answer():
    async def settle() -> list[bool]:
        loop = asyncio.get_running_loop()
        left, stays = loop.create_future(), loop.create_future()
        left.cancel()
        _settle([("a", left), ("b", stays)], [np.zeros(1), np.ones(1)])
        return [left.cancelled(), stays.result() == (np.ones(1), 2)]

    assert asyncio.run(settle()) == [True, True]


# The command.


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_names_are_read_in_either_case_and_others_are_refused(capsys):
    assert arguments("y1", "Y5", "baselines").names == ["Y1", "Y5", "baselines"]
    assert arguments().names == []
    with pytest.raises(SystemExit):
        arguments("Y10")
    assert "'Y10' is not one of Y1 Y2" in capsys.readouterr().err


def test_folder_of_traces_is_read_before_anything_is_measured(tmp_path: Path, capsys):
    for name, text in (("missing", None), ("empty", "TIMESTAMP\n"), ("other", "when\n1\n")):
        folder = tmp_path / name
        if text is not None:
            folder.mkdir()
            (folder / "trace.csv").write_text(text)
        with pytest.raises(SystemExit):
            arguments("--arrivals-folder", str(folder))
    told = capsys.readouterr().err
    for reason in ("no *.csv files", "has no two times", "has no TIMESTAMP column"):
        assert reason in told


@pytest.mark.parametrize("borrowed", BORROWED.values(), ids=BORROWED)
def test_options_for_a_borrowed_check_are_options_it_has(borrowed: Borrowed):
    for words in ((), ("--quick",)):
        options = borrowed.options(arguments(*words, "--cpus", "0"))
        assert options.cpus == {0}


def test_one_that_fails_is_a_miss_and_the_others_are_measured(tmp_path, monkeypatch):
    def fail(bench: Bench) -> list[Finding]:
        raise RuntimeError("no server\nand its log")

    monkeypatch.setattr(
        command, "ON_THE_BENCH", {"Y1": fail, "Y2": lambda bench: [Finding("fine", 1.0, ok=True)]}
    )
    args = arguments("Y1", "Y2", "--out", str(tmp_path))
    assert command.run(args) == 1
    (folder,) = tmp_path.iterdir()
    summary = (folder / "summary.md").read_text()
    assert "| Y1 not measured: no server |" in summary
    assert "| Y2 fine |  | 1  |  |  | holds |" in summary
    written = (folder / "summary.json").read_text()
    missed, fine = json.loads(written, parse_constant=pytest.fail)["findings"]
    assert (missed["measured"], fine["measured"]) == (None, 1.0)


def test_division_by_nothing_answered_is_a_miss_as_well():
    measured = command.attempt("Y1", arguments(), bench_that_measured(saturation=0))
    assert [finding.ok for finding in measured.findings] == [False]


def test_unmeasured_is_not_a_number():
    measured: Measured = command.attempt(
        "Y1", arguments(), bench_that_measured(saturation=float("nan"))
    )
    assert all(finding.ok is False for finding in measured.findings)
    assert math.isnan(measured.findings[0].measured)
