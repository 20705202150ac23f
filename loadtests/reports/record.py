"""One folder of `results/` for one run: how it was made, on what, the raw data and the summary."""

import dataclasses
import datetime
import gzip
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import write_raw
from loadtests.servers.launch import ROOT

OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_")
PACKAGES = ("torch", "transformers", "starlette", "uvicorn", "uvloop", "locust", "numpy")


class Record:
    """`<out>/<date>-<name>/`, numbered from the second of a day on; made at the first writing."""

    def __init__(
        self,
        out: Path,
        name: str,
        configuration: Mapping[str, object],
        resumed: Path | None = None,  # The folder of an earlier run, to go on with.
    ) -> None:
        today = datetime.date.today().isoformat()
        folders = (
            out / f"{today}-{name}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 99)))
        )
        self.path = resumed or next(folder for folder in folders if not folder.exists())
        self.facts: dict[str, object] = {
            "command": command_line(sys.argv[1:]),
            "commit": commit(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "configuration": dict(configuration),
        }

    def raw(self, name: str, run: Run) -> None:
        """One line a request, into `runs/<name>.csv.gz`."""
        write_raw(self._runs() / f"{name}.csv.gz", run.outcomes, run.begin)

    def text(self, name: str, text: str) -> None:
        (self._runs() / name).write_text(text)

    def packed(self, name: str, text: str) -> None:
        """Gzipped, into `runs/<name>.gz`."""
        (self._runs() / f"{name}.gz").write_bytes(gzip.compress(text.encode()))

    def line(self, name: str, line: str) -> None:
        """One more line of a file, on disk when this returns."""
        with (self.folder() / name).open("a") as file:
            file.write(line + "\n")

    def folder(self) -> Path:
        """Where everything goes. The facts are there from the start, should the run fail."""
        if not (self.path / "facts.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_json("facts.json", self.facts)
        return self.path

    def finish(self, title: str, body: str, figures: Mapping[str, object]) -> None:
        """Write summary.md (and print it) and summary.json."""
        settings = [f"- {name}: {value}" for name, value in self._lines()]
        summary = f"# {title}\n\n{body.strip()}\n\n## How\n" + "\n".join(settings) + "\n"
        (self.folder() / "summary.md").write_text(summary)
        self._write_json("summary.json", figures)
        print(f"\n{summary}\nwritten to {self.path}", flush=True)

    def _runs(self) -> Path:
        """The folder for raw data."""
        runs = self.folder() / "runs"
        runs.mkdir(exist_ok=True)
        return runs

    def _lines(self) -> list[tuple[str, object]]:
        lines: list[tuple[str, object]] = []
        for name, value in self.facts.items():
            if isinstance(value, Mapping):
                value = ", ".join(f"{key} {part}" for key, part in value.items())
            lines.append((name, f"`{value}`" if name == "command" else value))
        return lines

    def _write_json(self, name: str, value: object) -> None:
        text = json.dumps(_plain(value), indent=1, default=str, allow_nan=False)
        (self.path / name).write_text(text + "\n")


def command_line(arguments: Sequence[str]) -> str:
    """As typed, but folders outside the project by their last part: results are public."""
    shown = [f"…/{Path(part).name}" if os.path.isabs(part) else part for part in arguments]
    return shlex.join(["python", "-m", "loadtests"]) + " " + " ".join(map(_quoted, shown))


def commit(checkout: Path = ROOT) -> str:
    """Of a checkout, with `+changes` when the tree differs; "unknown" outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _lines_of("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = next(
        (line.split()[1] for line in _lines_of("/proc/meminfo") if "MemTotal" in line), "0"
    )
    facts = {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    facts |= {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)}
    # Every server inherits these, and waiting by spinning or not is a factor of ten on busy cores.
    return facts | {name: value for name, value in os.environ.items() if name.startswith(OPENMP)}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _quoted(part: str) -> str:
    return part if part.startswith("…/") and " " not in part else shlex.quote(part)


def _lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _plain(value: object) -> object:
    """As JSON has it, which knows no NaN: what was not measured is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
