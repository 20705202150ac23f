"""Which way imports point, and what an import may not bring in. Read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module of the engine imports only from lines above its own.
LAYERS = [
    {"errors", "clock", "limits", "ceiling", "fit", "lengths", "regroup", "arrays", "busy"},
    {"request", "watchdog", "answers"},
    {"cost", "pending", "equality", "quarantine", "runner", "stats", "futures"},
    {"recovery", "device", "sharing", "pipe", "layout", "messages", "told", "expiry"},
    {"replica", "hosting", "values"},
    {"policy", "admission", "replicas", "suspicion", "frames", "reader"},
    {"schedule", "channel"},
    {"ledger"},
    {"collector", "simulate", "worker"},
    {"client", "reception"},
    {"batching", "remote"},
    {"engine"},
    {"__init__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}

HEAVY = {"torch", "transformers", "sentence_transformers"}
HTTP = {"starlette", "uvicorn", "uvloop", "pydantic", "orjson", "prometheus_client"}


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file, in full."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("path", list(sources("batcher")), ids=lambda path: path.stem)
def test_imports_inside_the_engine_point_one_way(path: Path) -> None:
    assert path.stem in RANK, "give the new file its place in LAYERS"
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("batcher.")}
    upward = {module for module in ours & RANK.keys() if RANK[module] >= RANK[path.stem]}
    assert upward == set()


def test_the_engine_needs_the_standard_library_only() -> None:
    foreign = {
        f"{path.name}: {name}"
        for path in sources("batcher")
        for name in packages(path) - sys.stdlib_module_names - {"batcher", "numpy"}
    }
    assert foreign == set()


def test_the_engine_knows_neither_the_service_nor_the_load_tests() -> None:
    for path in sources("batcher"):
        assert packages(path) & {"service", "loadtests", "tests"} == set(), path


def test_the_service_knows_neither_the_load_tests_nor_the_tests() -> None:
    for path in sources("service"):
        assert packages(path) & {"loadtests", "tests"} == set(), path


def test_importing_the_engine_brings_in_no_model_and_no_http() -> None:
    assert imported_by("import batcher") & (HEAVY | HTTP | {"numpy"}) == set()


@pytest.mark.parametrize("module", ["settings", "launch", "app", "front", "errors", "tokenizing"])
def test_importing_the_front_brings_in_no_model(module: str) -> None:
    assert (ROOT / "service" / f"{module}.py").exists()
    assert imported_by(f"import service.{module}") & HEAVY == set()


def test_only_the_clock_names_the_monotonic_clock() -> None:
    naming = {
        path.name
        for path in sources("batcher")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in {"monotonic", "monotonic_ns"})
        or (isinstance(node, ast.ImportFrom) and node.module == "time")
    }
    assert naming == {"clock.py"}


def test_the_engine_never_sleeps() -> None:
    for path in sources("batcher"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr == "sleep"), path


@pytest.mark.parametrize(
    "module",
    [
        *("policy", "pending", "admission", "cost", "fit", "simulate", "limits", "answers"),
        *("layout", "messages", "values", "frames", "reader"),
    ],
)
def test_decisions_have_no_lock_no_clock_and_no_io(module: str) -> None:
    forbidden = {"threading", "asyncio", "time", "multiprocessing", "os", "logging", "socket"}
    assert packages(ROOT / "batcher" / f"{module}.py") & forbidden == set()


def test_no_failure_is_passed_over_in_silence() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("batcher", "service", "loadtests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(line, ast.Pass) for line in node.body))
    ]
    assert silent == []
