"""Is the new code slower? One command in two checkouts, each with its own code, in turn.

`python -m loadtests interleave OLD NEW -- check front --seconds 5` runs the command in OLD, NEW,
NEW, OLD, OLD, NEW … and compares the figures that it recorded. A ratio is the median of the rounds'
ratios, because a machine that is slow for a while is so for both runs of a round.
"""

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from loadtests.drivers.target import count_between, number_between
from loadtests.reports.record import Record

T = TypeVar("T")

STOP_SECONDS = 60.0  # For a command to stop the servers that it started.
NO_RECORD = "{command} in {checkout} recorded no figures; it ended with {code}:\n{tail}"

# By the bound, else by the unit.
HIGHER_IS_BETTER, LOWER_IS_BETTER = 1, -1
BOUNDS = {">": HIGHER_IS_BETTER, "<": LOWER_IS_BETTER}
UNITS = {
    "/s": HIGHER_IS_BETTER,
    "x": HIGHER_IS_BETTER,
    "s": LOWER_IS_BETTER,
    "ms": LOWER_IS_BETTER,
    "us": LOWER_IS_BETTER,
    "MiB": LOWER_IS_BETTER,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one run. `direction` is None where neither more nor less is better."""

    name: str
    value: float
    unit: str
    direction: int | None


@dataclass(slots=True)
class Compared:
    """One figure of both checkouts, a value a round. What was not measured is NaN."""

    name: str
    unit: str
    direction: int | None
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """One a round; at least 1: the new code is as good or better."""
        return [
            _ratio(old, new, self.direction or HIGHER_IS_BETTER)
            for old, new in zip(self.old, self.new, strict=True)
        ]

    @property
    def ratio(self) -> float:
        """NaN where a round lacks the figure or where it is not positive: no ratio of it exists."""
        return median(self.ratios) if all(map(math.isfinite, self.ratios)) else math.nan


@dataclass(frozen=True, slots=True)
class Done:
    """What a command recorded (its summary.json and facts.json) and printed."""

    summary: Mapping[str, Any]  # As the JSON is.
    facts: Mapping[str, Any]
    output: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=checkout_argument, help="the checkout to compare with")
    parser.add_argument("new", type=checkout_argument, help="the checkout to judge")
    parser.add_argument("--rounds", type=count_between(1, 99), default=3)
    parser.add_argument(
        "--at-least",
        type=number_between(0, 2),
        default=0.97,
        help="a ratio below it fails; default: 0.97",
    )
    parser.add_argument(
        "--judge",
        type=re.compile,
        default=re.compile(""),
        metavar="REGEX",
        help="figures whose ratio must hold; others are reported; default: all with a direction",
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--name", help="of the folder, after the date; default: the command's")
    parser.add_argument(
        "words", nargs="+", metavar="COMMAND", help="after `--`: check front --seconds 5 …"
    )


def checkout_argument(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / "loadtests" / "__main__.py").is_file():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of this project")
    return folder


def run(args: argparse.Namespace) -> int:
    """The command: 0 if no judged ratio is below the bound."""
    words = args.words[1:] if args.words[0] == "--" else args.words
    name = args.name or "-".join(["interleave", *(word for word in words[:2] if word.isalnum())])
    record = Record(args.out, name, {"rounds": args.rounds, "at_least": args.at_least})
    runs: dict[Path, list[dict[str, Figure]]] = {args.old: [], args.new: []}
    commits: dict[Path, str] = {}
    for number in range(args.rounds):
        for side, checkout in in_turn(number, (("old", args.old), ("new", args.new))):
            print(f"round {number + 1}/{args.rounds}, {side}: {shlex.join(words)}", flush=True)
            done = run_once(checkout, words)
            record.text(f"{number}-{side}.json", json.dumps(done.summary, indent=1))
            record.packed(f"{number}-{side}.log", done.output)
            runs[checkout].append(figures(done.summary))
            commits[checkout] = done.facts["commit"]
    compared = compare(runs[args.old], runs[args.new])
    for one in compared:
        record.line("ratios.csv", f'"{one.name}",{one.ratio},{" ".join(map(str, one.ratios))}')
    failed = slower(compared, args.at_least, args.judge)
    notes = f"`{shlex.join(words)}`: {commits[args.old]} (old), {commits[args.new]} (new)."
    told = "; ".join(failed) or f"no judged ratio is below {args.at_least:g}"
    record.finish(
        f"New code beside old: {shlex.join(words)}",
        f"{notes}\n\n{table(compared)}\n\nVerdict: {told}.",
        {"old": commits[args.old], "new": commits[args.new], "figures": compared},
    )
    return 1 if failed else 0


def in_turn(number: int, both: tuple[T, T]) -> tuple[T, T]:
    """A B, B A, A B …: what drifts with time favours neither."""
    return both if number % 2 == 0 else both[::-1]


def run_once(checkout: Path, words: Sequence[str]) -> Done:
    """Runs the command; its record goes to a temporary folder: nothing of it stays in the checkout.

    A missed claim is a result like any other. Raises RuntimeError if there is no summary.
    """
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    with tempfile.TemporaryDirectory(prefix="interleave-") as folder:
        command = [python, "-m", "loadtests", *words, "--out", folder, "--name", "run"]
        # The folder in which it starts decides whose code runs: `-m` puts it first on the path.
        process = subprocess.Popen(
            command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            output, _ = process.communicate()
        except BaseException:  # An interrupt too: the command stops its servers, then we go.
            process.terminate()
            process.wait(STOP_SECONDS)
            raise
        found = next(Path(folder).glob("*/summary.json"), None)
        if found is None:
            tail = "\n".join(output.splitlines()[-20:])
            raise RuntimeError(
                NO_RECORD.format(
                    command=shlex.join(words), checkout=checkout, code=process.returncode, tail=tail
                )
            )
        facts = json.loads((found.parent / "facts.json").read_text())
        return Done(json.loads(found.read_text()), facts, output)


def figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """By name. What a name has in brackets may differ: `the best offline (batches of 16)`."""
    found = summary.get("findings")
    if not found:
        raise RuntimeError("the command recorded no findings: its figures cannot be compared")
    named: dict[str, Figure] = {}
    for line in found:
        name = re.sub(r"\s*\([^)]*\)", "", line["what"])
        value = math.nan if line["measured"] is None else float(line["measured"])
        named[name] = Figure(name, value, line["unit"], direction(line["unit"], line["need"]))
    return named


def direction(unit: str, need: str) -> int | None:
    """Is more better, or less? The bound says so, else the unit. Y1 has `/s` and `>= 0.97`."""
    return UNITS.get(unit) if need[:1] not in BOUNDS else BOUNDS[need[0]]


def compare(
    old: Sequence[Mapping[str, Figure]], new: Sequence[Mapping[str, Figure]]
) -> list[Compared]:
    """In the order of the first run; a figure that a run lacks is NaN there."""
    known: dict[str, Figure] = {}
    for one in (*old, *new):
        for name, figure in one.items():
            known.setdefault(name, figure)
    return [
        Compared(
            name,
            figure.unit,
            figure.direction,
            [one[name].value if name in one else math.nan for one in old],
            [one[name].value if name in one else math.nan for one in new],
        )
        for name, figure in known.items()
    ]


def slower(compared: Sequence[Compared], at_least: float, judged: re.Pattern[str]) -> list[str]:
    """What fails, in words. A judged figure that only one checkout measures fails too."""
    failed = []
    judged_at_all = 0
    for one in compared:
        if one.direction is None or not judged.search(one.name):
            continue
        judged_at_all += 1
        if any(map(math.isnan, (*one.old, *one.new))):
            failed.append(f"{one.name}: not measured in every run")
        elif one.ratio < at_least:
            failed.append(f"{one.name}: {one.ratio:.3f} is below {at_least:g}")
    return failed if judged_at_all else ["no figure is judged"]


def table(compared: Sequence[Compared]) -> str:
    lines = ["| what | better | old | new | ratio | of the rounds |", "|---|---|---|---|---|---|"]
    for one in compared:
        better = {HIGHER_IS_BETTER: "more", LOWER_IS_BETTER: "less", None: "not judged"}
        ratios = ", ".join(f"{ratio:.3f}" for ratio in one.ratios)
        lines.append(
            f"| {one.name} | {better[one.direction]} | {median(one.old):.5g} {one.unit} "
            f"| {median(one.new):.5g} {one.unit} | {one.ratio:.3f} | {ratios} |"
        )
    return "\n".join(lines)


def _ratio(old: float, new: float, direction: int) -> float:
    if not (old > 0 and new > 0):
        return math.nan
    return new / old if direction == HIGHER_IS_BETTER else old / new
