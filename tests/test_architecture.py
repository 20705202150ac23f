"""The folders are the architecture: which way imports point, and what an import may not bring in.

A room is a folder or a file directly under a package's root. The rooms of a package have ranks; a
room imports from its own rank or a lower one, and there is no circle. All is read from the source.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("batcher", "service", "loadtests")

# Lowest first. A new folder, or a new file at a package's root, gets its place here.
RANKS: Mapping[str, tuple[set[str], ...]] = {
    "batcher": (
        {"errors", "clock", "limits", "plain_data", "model"},
        {"request"},
        {"failures", "runner", "monitor"},
        {"scheduling"},
        {"snapshot", "timeouts"},
        {"ledger", "supervision", "workers"},
        {"settlement"},
        {"collector"},
        {"batching", "client"},
        {"engine", "remote"},
        {"stages"},
    ),
    "service": (
        {"environment", "settings", "errors", "version"},
        {"repository", "cache"},
        {"http", "placement", "tasks"},
        {"observability", "models", "catalog"},
        {"inference"},
        {"state", "jobs"},
        {"api", "edge"},
        {"app"},
        {"processes"},
        {"arguments", "main", "plan"},
        {"__main__"},
    ),
    "loadtests": (
        {"drivers"},
        {"servers"},
        {"reports", "theory"},
        {"baselines", "models"},
        {"checks", "chaos", "fuzz", "peers", "tune", "gpu", "revisions"},
        {"locustfile", "__main__"},
    ),
}
# Rooms that do not see each other although their ranks would let them.
APART = {
    ("models", "http"): "a worker knows no HTTP",
    ("tasks", "http"): "jobs call a task without HTTP",
    ("inference", "http"): "jobs call the pipeline without HTTP",
    ("api", "edge"): "a protocol speaks ASGI",
    ("edge", "api"): "the edge is handed its envelope",
}

HEAVY = {"torch", "transformers", "sentence_transformers", "onnxruntime", "openvino"}
HTTP = {"starlette", "uvicorn", "uvloop", "pydantic", "orjson", "prometheus_client"}

# Folders in which each file is one of a kind (a protocol, a claim): any number of them is fine.
ONE_OF_A_KIND = {"service/api", "service/tasks", "loadtests/checks", "loadtests/chaos"}


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`service.api.tei` is in the room `api`; a package itself is the room `""`."""
    return (*module.split("."), "")[1]


def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sources(*PACKAGES)}


MODULES = modules()


def imports_of(tree: ast.AST, path: Path) -> set[str]:
    """Every module that is named in an import anywhere in `tree`, in full."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def imports(path: Path) -> set[str]:
    return imports_of(ast.parse(path.read_text()), path)


@cache
def imports_at_once(path: Path) -> frozenset[str]:
    """What importing the module imports: not what a function of it does later, nor what is there
    for the type checker alone."""

    class Later(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return None
            return self.generic_visit(node)

    return frozenset(imports_of(Later().visit(ast.parse(path.read_text())), path))


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def inside(names: set[str] | frozenset[str]) -> set[str]:
    """The modules of ours among imported names; `package.module.Name` is `package.module`."""
    found = set()
    for name in names:
        if name in MODULES:
            found.add(name)
        elif name.rpartition(".")[0] in MODULES:
            found.add(name.rpartition(".")[0])
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle in the graph; empty: there is none."""
    done: set[str] = set()

    def walk(node: str, above: list[str]) -> list[str]:
        if node in above:
            return [*above[above.index(node) :], node]
        if node in done:
            return []
        for below in sorted(graph.get(node, ())):
            if found := walk(below, [*above, node]):
                return found
        done.add(node)
        return []

    for start in sorted(graph):
        if found := walk(start, []):
            return found
    return []


def reachable(start: str) -> dict[str, str]:
    """What importing `start` imports in the end, ours and others', each with a module that does."""
    found: dict[str, str] = {}
    queue = [start]
    while queue:
        module = queue.pop()
        names = imports_at_once(MODULES[module])
        for name in names:
            if name.partition(".")[0] not in PACKAGES:
                found.setdefault(name.partition(".")[0], module)
        parents = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
        for ours in inside(names) | (parents & MODULES.keys()):
            if ours not in found:
                found[ours] = module
                queue.append(ours)
    return found


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


# Which way imports point


@pytest.mark.parametrize("package", RANKS)
def test_every_room_has_a_rank(package: str) -> None:
    rooms = {room_of(module) for module in MODULES if module.startswith(f"{package}.")}
    assert rooms - set().union(*RANKS[package]) == set()


@pytest.mark.parametrize("package", RANKS)
def test_imports_point_to_the_same_rank_or_a_lower_one(package: str) -> None:
    rank = {room: number for number, rooms in enumerate(RANKS[package]) for room in rooms}
    upward = {
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module.startswith(f"{package}.")
        for name in inside(imports(path))
        if name.startswith(f"{package}.") and rank[room_of(name)] > rank[room_of(module)]
    }
    assert upward == set()


def test_rooms_that_must_not_know_each_other_do_not() -> None:
    joined = {
        f"{module} imports {name}: {APART[room_of(module), room_of(name)]}"
        for module, path in MODULES.items()
        if module.startswith("service.")
        for name in inside(imports(path))
        if name.startswith("service.") and (room_of(module), room_of(name)) in APART
    }
    assert joined == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_circle_among_rooms(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if module.startswith(f"{package}."):
            names = {name for name in inside(imports(path)) if name.startswith(f"{package}.")}
            graph.setdefault(room_of(module), set()).update(map(room_of, names))
    for room, below in graph.items():
        below.discard(room)
    assert circle(graph) == []


def test_there_is_no_circle_among_modules() -> None:
    graph = {
        module: {name for name in inside(imports(path)) if MODULES[name].name != "__init__.py"}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    assert circle(graph) == []


def test_a_circle_and_an_arrow_back_up_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_is_seen_at_a_glance(package: str) -> None:
    for folder in [ROOT / package, *(ROOT / package).rglob("*")]:
        name = folder.relative_to(ROOT).as_posix()
        if not folder.is_dir() or folder.name == "__pycache__" or name in ONE_OF_A_KIND:
            continue
        rooms = [
            entry
            for entry in folder.iterdir()
            if (entry.suffix == ".py" and entry.name != "__init__.py")
            or (entry.is_dir() and (entry / "__init__.py").exists())
        ]
        assert len(rooms) <= (22 if name == package else 16), name


def test_no_file_is_long_and_those_of_the_path_are_shorter() -> None:
    path = {
        "batcher/collector.py",
        "batcher/batching.py",
        "batcher/workers/child.py",
        "service/inference/pipeline.py",
        *(str(each.relative_to(ROOT)) for each in (ROOT / "service/api").glob("*.py")),
    }
    counts = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for package in ("batcher", "service")
        for file in (ROOT / package).rglob("*.py")
    }
    assert path <= counts.keys()
    long = {file: count for file, count in counts.items() if count > (249 if file in path else 300)}
    assert long == {}


# What an import may not bring in


def test_the_engine_needs_little() -> None:
    allowed = {"batcher": {"numpy"}, "remote": {"numpy", "msgspec"}}
    foreign = {
        f"{module}: {name}"
        for module, path in MODULES.items()
        if module.partition(".")[0] == "batcher"
        for name in packages(path) - sys.stdlib_module_names - {"batcher"}
        if name not in allowed.get(room_of(module), allowed["batcher"])
    }
    assert foreign == set()


def test_the_engine_knows_neither_the_service_nor_the_load_tests() -> None:
    for path in sources("batcher"):
        assert packages(path) & {"service", "loadtests", "tests"} == set(), path


def test_the_service_knows_neither_the_load_tests_nor_the_tests() -> None:
    for path in sources("service"):
        assert packages(path) & {"loadtests", "tests"} == set(), path


def test_importing_the_engine_brings_in_no_model_and_no_http() -> None:
    assert imported_by("import batcher") & (HEAVY | HTTP | {"numpy", "msgspec"}) == set()


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if name.startswith("service.") and room_of(name) != "models"],
)
def test_nothing_that_a_frontend_imports_brings_in_a_model(module: str) -> None:
    brought = {name: via for name, via in reachable(module).items() if name in HEAVY}
    assert brought == {}


def test_the_walk_over_the_imports_finds_what_a_model_brings_in() -> None:
    heavy = [name for name in MODULES if "torch" in reachable(name)]
    assert heavy, "the walk finds nothing at all"
    assert all(room_of(name) == "models" for name in heavy if name.startswith("service."))


def test_the_libraries_of_a_frontend_bring_in_no_model_either() -> None:
    assert imported_by("import service.main, service.app, service.tasks.text") & HEAVY == set()


# The engine's manners


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
    "path", list(sources("batcher/scheduling", "batcher/supervision")), ids=lambda path: path.stem
)
def test_decisions_have_no_lock_no_clock_and_no_io(path: Path) -> None:
    forbidden = {"threading", "asyncio", "time", "multiprocessing", "os", "socket"}
    assert packages(path) & forbidden == set()


def test_no_failure_is_passed_over_in_silence() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(line, ast.Pass) for line in node.body))
    ]
    assert silent == []


def test_every_file_that_the_code_names_is_there() -> None:
    there = {path.name for path in sources(*PACKAGES)} | {"sitecustomize.py"}  # Python's own
    named = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(*PACKAGES)
        for name in re.findall(r"\w+\.py\b", path.read_text())
        if name not in there
    }
    assert named == set()
