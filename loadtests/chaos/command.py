"""`python -m loadtests chaos`: every fault that one machine can inject, and what came of it."""

import argparse
import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.chaos import mixed, report, soak
from loadtests.chaos.bench import SIMULATED, Bench
from loadtests.chaos.controls import Control, controls
from loadtests.chaos.judge import PATIENT, STRICT, Budget, Verdict, judge
from loadtests.chaos.scenario import NotRunnable, Scenario
from loadtests.chaos.table import TABLE
from loadtests.drivers.history import History
from loadtests.drivers.target import number_between
from loadtests.reports.record import Record
from loadtests.servers.launch import Variant

SABOTAGE = "loadtests.chaos.sabotage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="W2,L8", help="these scenarios; no negative controls")
    parser.add_argument(
        "--ci",
        action="store_true",
        help="the scenarios whose verdict does not depend on the machine's speed; no controls",
    )
    parser.add_argument(
        "--soak",
        type=number_between(0.2, 600),
        metavar="MINUTES",
        help="instead: one mixed load with faults at low rates, for so long",
    )
    parser.add_argument(
        "--real", action="store_true", help="the default model; the scenarios that fit it"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results/")


def run(args: argparse.Namespace) -> int:
    """The command: 0 when everything survived, or cannot run here, and every control was caught."""
    options = {
        "only": args.only,
        "ci": args.ci,
        "soak minutes": args.soak,
        "real model": args.real,
    }
    name = "chaos" + ("-soak" if args.soak else "") + ("-real" if args.real else "")
    settings = {} if args.real else dict(SIMULATED) | (mixed.ENV if args.soak else {})
    record = Record(args.out, name, {k: v for k, v in options.items() if v} | settings)
    if args.soak:
        return soak.run(args.soak, record)
    chosen = choose(args.only, args.real, args.ci)
    checked = [] if args.only or args.real or args.ci else controls()
    began = time.monotonic()
    verdicts = judge_all(chosen, record, args.real, budget=PATIENT if args.ci else STRICT)
    minutes = (time.monotonic() - began) / 60
    notes = f"All scenarios together took {minutes:.1f} minutes."
    title = "Chaos: " + ("the default model" if args.real else "the simulated accelerator")
    record.finish(
        title, report.summary(verdicts, checked, notes), report.figures(verdicts, checked)
    )
    return 0 if passed(verdicts, checked) else 1


def choose(only: str | None, real: bool, ci: bool = False) -> list[Scenario | NotRunnable]:
    """Raises ValueError for an unknown id."""
    wanted = only.split(",") if only else [row.id for row in TABLE]
    if unknown := set(wanted) - {row.id for row in TABLE}:
        raise ValueError(f"no scenario {', '.join(sorted(unknown))}")
    rows = [row for row in TABLE if row.id in wanted]
    if ci:
        return [row for row in rows if isinstance(row, Scenario) and not row.timed]
    return [row for row in rows if isinstance(row, Scenario) and row.real] if real else rows


def judge_all(
    rows: Sequence[Scenario | NotRunnable],
    record: Record,
    real: bool = False,
    budget: Budget = STRICT,
) -> list[Verdict]:
    """In the table's order, though those with equal settings run together."""
    found = {row.id: _not_run(row) for row in rows if isinstance(row, NotRunnable)}
    scenarios = [row for row in rows if isinstance(row, Scenario)]
    keys = list(dict.fromkeys(_key(scenario) for scenario in scenarios))
    for key in keys:
        bench = Bench(real)
        together = [scenario for scenario in scenarios if _key(scenario) == key]
        try:
            for scenario in together:
                verdict = _start_and_judge(bench, scenario, real, budget)
                found[scenario.id] = verdict
                write_raw(record, scenario.id, bench.history)
                print(
                    f"{verdict.id:4} {verdict.verdict:12} {verdict.seconds:5.1f} s"
                    f"  {verdict.observed}",
                    flush=True,
                )
        finally:
            bench.stop()
    return [found[row.id] for row in rows]


def _start_and_judge(bench: Bench, scenario: Scenario, real: bool, budget: Budget) -> Verdict:
    """A service that does not start with these settings is a verdict too."""
    if not bench.alive():
        try:
            bench.start(variant(scenario.env, scenario.drill, real))
        except (RuntimeError, OSError) as error:
            print(error, flush=True)
            why = "the service did not start"
            return Verdict(scenario.id, scenario.injected, scenario.expected, why, "FAILED")
    return judge(bench, scenario, budget=budget)


def variant(env: Mapping[str, str], drill: str = "", real: bool = False) -> Variant:
    settings = ({} if real else dict(SIMULATED)) | dict(env)
    if not drill:
        return Variant("chaos", "service", (), settings)
    return Variant("chaos", SABOTAGE, (drill, "--port", "{port}"), settings)


def passed(verdicts: Sequence[Verdict], checked: Sequence[Control]) -> bool:
    return all(verdict.verdict != "FAILED" for verdict in verdicts) and all(
        control.caught for control in checked
    )


def write_raw(record: Record, name: str, history: History) -> None:
    """One line a request: when it was due, sent and answered, and how it ended."""
    calls = history.calls
    if not calls:
        return
    begin, page = calls[0].scheduled, io.StringIO()
    rows = csv.writer(page)
    rows.writerow(["scheduled_s", "sent_s", "answered_s", "outcome", "text"])
    for call in calls:
        times = (call.scheduled, call.sent, call.answered)
        shown = [f"{at - begin:.6f}" if at else "" for at in times]
        rows.writerow([*shown, call.outcome, call.text[:60]])
    record.packed(f"{name}.csv", page.getvalue())


def _key(scenario: Scenario) -> tuple[str, tuple[tuple[str, str], ...]]:
    return scenario.drill, tuple(sorted(scenario.env.items()))


def _not_run(row: NotRunnable) -> Verdict:
    return Verdict(row.id, row.injected, "", row.reason, "not runnable")
