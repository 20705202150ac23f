"""Is /openapi.json true? schemathesis makes thousands of requests from it, valid and not.

All its phases (examples, coverage, fuzzing, stateful) and all its checks, but for what openapi.toml
and openapi_rules.py say, with reasons. The document says what the served model takes: so it is read
anew from a server with a tiny model of each kind. With `--schema FILE` from that document instead;
text-embeddings-inference's is amended as tei_document.py says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtests.drivers.target import count_between
from loadtests.fuzz import tei_document
from loadtests.models import vision
from loadtests.models.folder import Folder
from loadtests.models.folders import make
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import ROOT, Variant, running, service

TITLE = "schemathesis on /openapi.json"
CONFIG = ROOT / "loadtests" / "openapi.toml"
TEI_CONFIG = ROOT / "loadtests" / "tei_openapi.toml"
THEIRS = ("embed", "classify", "score", "sparse")  # kinds of models for --schema
KINDS = (
    "simulated",
    *THEIRS,
    "zero-shot",
    "tag",
    "image-classify",
    "image-embed",
    "own",
)
_NLI = ("contradiction", "neutral", "entailment")  # labels of a classifier for zero-shot
GRACE_SECONDS = 120.0  # Beyond its own limit.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=count_between(10, 3600), default=300, help="at most, of each kind"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schema", type=Path, help="another document than the server's own")
    parser.add_argument(
        "--kinds", choices=KINDS, nargs="+", help="default: all; for --schema embed to sparse"
    )


def measure(args: argparse.Namespace, record: Record) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        file, found, notes = None, list[Finding](), list[str]()
        if args.schema is not None:
            document = json.loads(args.schema.read_text(encoding="utf-8"))
            is_theirs = tei_document.is_theirs(document)
            file = Path(folder, "openapi.json")
            file.write_text(json.dumps(tei_document.amended(document) if is_theirs else document))
            notes += [f"Amended: {reason}." for reason in tei_document.AMENDMENTS if is_theirs]
        for kind in args.kinds or (KINDS if file is None else THEIRS):
            at = Path(folder, kind)
            at.mkdir()
            measured = _held_to(_variant(kind, at), file, at, args, record)
            print(kind, measured.notes or "holds", flush=True)
            found += [replace(one, what=f"{kind}: {one.what}") for one in measured.findings]
            notes += [f"{kind}:", measured.notes] if measured.notes else []
        return Measured(found, "\n\n".join(notes))


def _variant(kind: str, at: Path) -> Variant:
    """The service with a model of that kind, which is made in the folder `at`."""
    of_cpu = {"backend": "torch", "dtype": "float32", "device": "cpu"}
    match kind:
        case "simulated":
            return service(kind, runner="simulated", sim_fixed_ms=0, sim_per_item_ms=0)
        case "own":
            return service(kind, runner="loadtests.models.own:echo")
        case "image-classify" | "image-embed":
            folder = Folder(task=kind, kind=vision.KINDS[kind][0], steps=())
        case "zero-shot":
            folder = Folder(task="classify", labels=_NLI, model_max_length=32)
        case _:
            folder = Folder(task=kind, model_max_length=32)
    return service(kind, model=make(folder, at), **of_cpu)


def _held_to(
    variant: Variant,
    document: Path | None,
    folder: Path,
    args: argparse.Namespace,
    record: Record,
) -> Measured:
    """None: to the server's own."""
    with running(variant, args.cpus) as server:
        url = server.target.url
        config = CONFIG if document is None else TEI_CONFIG
        told, log = fuzz(url, folder, args.seconds, args.seed, document, config)
        record.text(f"schemathesis-{variant.name}.txt", log.replace(f"{ROOT}/", ""))
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


def fuzz(
    url: str,
    folder: Path,
    seconds: int,
    seed: int,
    document: Path | None = None,  # None: the server's own
    config: Path = CONFIG,
) -> tuple[dict[str, Any], str]:
    """Its report, and what it printed. Raises RuntimeError when it made none."""
    report = folder / "report.json"
    done = subprocess.run(
        _command(url, document, config, report, seconds, seed),
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


def _command(
    url: str, document: Path | None, config: Path, report: Path, seconds: int, seed: int
) -> list[str]:
    options = {
        "--phases": "examples,coverage,fuzzing,stateful",
        "--max-time": seconds,
        "--max-examples": 200,
        "--seed": seed,
        "--request-timeout": 10,
        "--report": "json",
        "--report-json-path": report,
        "--url": url,
    }
    location = f"{url}/openapi.json" if document is None else str(document)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    chosen = [str(part) for option in options.items() for part in option]
    return [*command, location, "--continue-on-failure", *chosen]
