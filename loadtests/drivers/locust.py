"""Locust: one bounded run without its page, and what it reports; what its page may start."""

import csv
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.drivers import workloads
from loadtests.drivers.target import Target, number_between, parse_target

ROOT = Path(__file__).resolve().parents[2]
START_AND_STOP_SECONDS = 30.0  # Importing gevent and Locust, on a machine that is busy.
PATIENCE_SECONDS = 2.0  # An answer may take this long before Locust's rate drops.


@dataclass(frozen=True, slots=True)
class LocustReport:
    """Locust's own figures; above 100 ms they have two digits. All zero when nothing came back."""

    requests: int
    failures: int
    answered_per_s: float
    p50_ms: float
    p95_ms: float


def locust(
    target: Target, rate: float, seconds: float, texts: str, sentences: Path | None, seed: int
) -> LocustReport:
    """Raises RuntimeError when Locust itself fails or outlives its time."""
    users = max(4, round(rate * PATIENCE_SECONDS))
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        prefix = Path(folder, "run")
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py")]
        command += ["--headless", "--only-summary", "--loglevel", "ERROR", "--host", target.url]
        command += ["--users", str(users), "--spawn-rate", str(users), "--stop-timeout", "0"]
        command += ["--run-time", f"{round(seconds)}s", "--csv", str(prefix)]
        command += ["--rate", str(rate), "--texts", texts, "--seed", str(seed)]
        if sentences:
            command += ["--sentences", str(sentences)]
        _run(command, seconds + START_AND_STOP_SECONDS)
        with Path(f"{prefix}_stats.csv").open(newline="", encoding="utf-8") as file:
            total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return LocustReport(
        requests=int(total["Request Count"]),
        failures=int(total["Failure Count"]),
        answered_per_s=float(total["Requests/s"]) - float(total["Failures/s"]),
        p50_ms=_milliseconds(total["50%"]),
        p95_ms=_milliseconds(total["95%"]),
    )


def _run(command: list[str], limit: float) -> None:
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise RuntimeError(f"Locust did not end within {limit:.0f} s and was killed") from error
    # Status 1 says that some requests failed: for us a figure, not a failure.
    if process.returncode not in (0, 1, -signal.SIGTERM):
        raise RuntimeError(f"Locust failed ({process.returncode}): {output[-2000:]}")


def _milliseconds(text: str) -> float:
    return 0.0 if text in ("", "N/A") else float(text)


rate_argument = number_between(0.1, 10_000)


def _kind(text: str) -> None:
    if text not in workloads.KINDS:
        raise ValueError(f"{text!r} is not one of {', '.join(workloads.KINDS)}")


def _seed(text: str) -> None:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")


_RULES: Mapping[str, Callable[[str], object]] = {
    "host": parse_target,
    "rate": rate_argument,
    "texts": _kind,
    "seed": _seed,
}


def refusal(form: Mapping[str, str]) -> str | None:
    """Why the form cannot start a test, in one line for the page; None if it can.

    Locust logs an error of a listener and starts the users all the same, so a wrong host must be
    refused here: load tests drive the loopback only.
    """
    for name, check in _RULES.items():
        try:
            if name in form:
                check(form[name])
        except (ValueError, ArgumentTypeError) as error:
            return f"{name}: {error}"
    return None
