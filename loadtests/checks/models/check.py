"""Is every model answered as the reference library answers, or refused? Tiny random models.

`sweep`: each task with each architecture, each backend and each odd file. `rare`: less common
architectures. `draws`: legal combinations of files, settings and options at random. In float32,
over HTTP, alone and among 63 others of mixed length.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from loadtests.checks.models import draws, sweep
from loadtests.checks.models.case import Case
from loadtests.checks.models.distance import ATOL, RTOL
from loadtests.checks.models.served import models_are_read_here
from loadtests.checks.models.trial import Came, attempt
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record

TITLE = "Any model: answered as the reference library answers, or refused"
PARTS = ("sweep", "rare", "draws")
TASKS = ("embed", "sparse", "score", "classify", "tag", "image-classify", "image-embed")
BACKENDS = ("torch", "compiled", "reference", "onnx", "openvino")

Tried = list[tuple[Case, Came]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--backends", choices=BACKENDS, nargs="+", default=list(BACKENDS))
    parser.add_argument("--examples", type=count_between(1, 100_000), default=200, help="of draws")
    parser.add_argument("--seed", type=int, default=1, help="of draws")
    parser.add_argument(
        "--minutes", type=number_between(1, 600), default=600.0, help="then no other is begun"
    )


def measure(args: argparse.Namespace, record: Record) -> Measured:
    tasks, rows = tuple(args.tasks), io.StringIO()
    table = csv.writer(rows)
    table.writerow(["part", "word", "backend", "absolute", "share", "seconds", "case", "why"])
    parts: dict[str, Tried] = {}
    ends, left = time.monotonic() + 60 * args.minutes, Counter[str]()
    with models_are_read_here(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in args.only:
            tried = parts[part] = []

            def run(case: Case, part: str = part, tried: Tried = tried) -> None:
                began = time.monotonic()
                if began > ends:
                    left[part] += 1
                    return
                with contextlib.redirect_stdout(io.StringIO()):
                    came = attempt(case)
                tried.append((case, came))
                seconds = round(time.monotonic() - began, 1)
                numbers = [f"{came.absolute:.3g}", f"{came.share:.3g}", seconds]
                table.writerow([part, came.word, came.backend, *numbers, case.describe(), came.why])
                if came.word != "same" or not len(tried) % 25:
                    told = f"{part} {len(tried)}: {came.word} {case.describe()}: {came.why}"
                    print(told, flush=True)

            if part == "draws":
                draw(run, tasks, tuple(args.backends), args.examples, args.seed)
            else:
                chosen = sweep.cases if part == "sweep" else sweep.rare
                each(run, chosen(tasks, tuple(args.backends)))
    record.text("cases.csv", rows.getvalue())
    record.text("said.csv", said([case for tried in parts.values() for case, _ in tried]))
    findings = [one for part, tried in parts.items() for one in judged(part, tried)]
    late = [f"{part}: {count} were not begun: time was up." for part, count in left.items()]
    return Measured(findings, "\n\n".join([*late, _notes(parts)]))


def each(run: Callable[[Case], None], cases: Iterable[Case]) -> None:
    for case in cases:
        run(case)


def draw(
    run: Callable[[Case], None],
    tasks: tuple[str, ...],
    backends: tuple[str, ...],
    examples: int,
    seed: int,
) -> None:
    import hypothesis
    from hypothesis import HealthCheck, Phase

    seen: set[str] = set()

    def once(case: Case) -> None:
        if (name := case.describe()) not in seen:
            seen.add(name)
            run(case)

    plan = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    hypothesis.seed(seed)(plan(hypothesis.given(draws.cases(tasks, backends))(once)))()


def said(cases: Sequence[Case]) -> str:
    """What files, settings and options say that is not the plain folder: each value, and of how
    many cases."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for case in cases:
        folder = case.folder
        for name, value in folder.said().items():
            counted[folder.task, name, value] += 1
        for name, value in case.settings.items():
            counted[folder.task, f"BATCHER_{name.upper()}", value] += 1
        for name, value in case.options.items():
            counted[folder.task, f"option {name}", repr(value)] += 1
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["task", "what", "value", "cases"])
    table.writerows([*key, count] for key, count in sorted(counted.items()))
    return rows.getvalue()


def judged(part: str, tried: Sequence[tuple[Case, Came]]) -> list[Finding]:
    found = []
    for task in dict.fromkeys(case.folder.task for case, _ in tried):
        of_task = [(case, came) for case, came in tried if case.folder.task == task]
        words = Counter(came.word for _, came in of_task)
        kinds = {case.folder.kind for case, came in of_task if came.word == "same"}
        name = f"{part}, {task}"
        found += [
            Finding(f"{name}: models compared", words["same"]),
            Finding(f"{name}: architectures", len(kinds), need=">= 6", ok=len(kinds) >= 6),
            Finding(f"{name}: largest difference", max(came.absolute for _, came in of_task)),
            at_most(
                f"{name}: the same, of what is allowed",
                max(came.share for _, came in of_task),
                1.0,
            ),
            none(f"{name}: answered wrong", words["wrong"]),
            none(f"{name}: failed in another way", words["failed"]),
            Finding(f"{name}: refused", words["refused"]),
        ]
    return found


def _notes(parts: dict[str, Tried]) -> str:
    lines = [f"Allowed: {ATOL:g}, and {RTOL:g} of the reference's number.", ""]
    for part, tried in parts.items():
        for word in ("wrong", "failed", "refused"):
            for case, came in tried:
                if came.word == word:
                    lines.append(f"- {part}, {word}: `{case.describe()}`: {came.why}")
    return "\n".join(lines)
