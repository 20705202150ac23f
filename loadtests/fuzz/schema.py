"""Is /openapi.json true? schemathesis makes thousands of requests from it, valid and not.

All its phases (examples, coverage, fuzzing, stateful) and all its checks, but for what openapi.toml
and openapi_rules.py say, with reasons.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.drivers.target import count_between
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import ROOT, running, service

TITLE = "schemathesis on /openapi.json"
CONFIG = ROOT / "loadtests" / "openapi.toml"
GRACE_SECONDS = 120.0  # Beyond its own limit.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=count_between(10, 3600), default=150, help="at most")
    parser.add_argument("--seed", type=int, default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    variant = service("simulated", runner="simulated", sim_fixed_ms=0, sim_per_item_ms=0)
    with running(variant, args.cpus) as server, tempfile.TemporaryDirectory() as folder:
        told, log = fuzz(server.target.url, Path(folder), args.seconds, args.seed)
        record.text("schemathesis.txt", log.replace(f"{ROOT}/", ""))
        alive = server.get("/health/live")[0] == 200
    cases, failures = told["test_cases"], {one["code"]: one for one in told["failures"]}
    server_errors = failures.pop("ST101", {"count": 0})["count"]
    others = sum(one["count"] for one in failures.values())
    operations = told["operations"]
    findings = [
        Finding("requests made", cases["generated"], need=">= 1000", ok=cases["generated"] >= 1000),
        Finding(
            "operations tested",
            operations["tested"],
            ideal=operations["total"],
            need="all",
            ok=operations["tested"] == operations["total"],
        ),
        Finding("server errors", server_errors, need="0", ok=server_errors == 0),
        Finding("violations of the schema", others, need="0", ok=others == 0),
        Finding(
            "requests that could not be made", len(told["errors"]), need="0", ok=not told["errors"]
        ),
        Finding("alive afterwards", int(alive), need="1", ok=alive),
    ]
    titles = [f"- {code} {one['title']}: {one['operations']}" for code, one in failures.items()]
    return Measured(findings, "\n".join(titles))


def fuzz(url: str, folder: Path, seconds: int, seed: int) -> tuple[dict[str, Any], str]:
    """Its report, and what it printed. Raises RuntimeError when it made none."""
    report = folder / "report.json"
    done = subprocess.run(
        _command(f"{url}/openapi.json", report, seconds, seed),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=seconds + GRACE_SECONDS,
    )
    log = done.stdout + done.stderr
    if not report.exists():
        raise RuntimeError(f"schemathesis made no report: {log[-800:]}")
    told: dict[str, Any] = json.loads(report.read_text())
    return told, log


def _command(location: str, report: Path, seconds: int, seed: int) -> list[str]:
    options = {
        "--phases": "examples,coverage,fuzzing,stateful",
        "--max-time": seconds,
        "--max-examples": 200,
        "--seed": seed,
        "--request-timeout": 10,
        "--report": "json",
        "--report-json-path": report,
    }
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    chosen = [str(part) for option in options.items() for part in option]
    return [*command, location, "--continue-on-failure", *chosen]
