"""Makes what the clients need: `python -m tests.clients.environments`.

Two environments of Python in `.venv-clients/` and a folder of Node in `build/clients/node`, with
the versions of `frameworks.txt`, `newest.txt` and `package-lock.json`. What is complete stays as
it is; what cannot be had is told, with the reason, and the clients that need it are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SECONDS = 1200.0
DONE = "installed.txt"  # what was asked for, once it is there
REASON = "failed.txt"


@dataclass(frozen=True, slots=True)
class Environment:
    name: str
    folder: Path
    wanted: Path  # the versions
    program: str  # what it cannot do without

    @property
    def command(self) -> Sequence[str]:
        """Runs a file of calls."""
        if self.name == "node":
            return ["node", str(self.folder / "run.mjs")]
        return [str(self.folder / "bin/python"), str(HERE / "calls/run.py")]

    @property
    def calls(self) -> Path:
        """The folder that they are run from."""
        return self.folder if self.name == "node" else HERE / "calls"

    def missing(self) -> str:
        """Why its clients cannot be run; empty when they can."""
        if (self.folder / REASON).exists():
            return (self.folder / REASON).read_text()
        there = self.folder / DONE
        if not there.exists():
            return "not installed: make test-clients"
        return "" if there.read_text() == self.wanted.read_text() else "old: make test-clients"

    def install(self) -> str:
        """Returns the reason when that fails, else the empty string."""
        if not self.missing():
            return ""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / REASON).unlink(missing_ok=True)
        reason = ""
        if shutil.which(self.program) is None:
            reason = f"{self.program} is not on this machine"
        else:
            reason = self._node() if self.name == "node" else self._python()
        if reason:
            (self.folder / REASON).write_text(reason)
        else:
            (self.folder / DONE).write_text(self.wanted.read_text())
        return reason

    def _python(self) -> str:
        if not (self.folder / "bin/python").exists():
            venv.create(self.folder, with_pip=True)
        pip = [str(self.folder / "bin/python"), "-m", "pip", "install", "--quiet"]
        return _run([*pip, "--disable-pip-version-check", "-r", str(self.wanted)], ROOT)

    def _node(self) -> str:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, self.folder)
        return _run(["npm", "ci", "--no-audit", "--no-fund"], self.folder)


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} took more than {SECONDS:.0f} s"
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    return "" if ran.returncode == 0 else (lines or ["it failed and said nothing"])[-1]


ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment(
            "frameworks", ROOT / ".venv-clients/frameworks", HERE / "frameworks.txt", "python3"
        ),
        Environment("newest", ROOT / ".venv-clients/newest", HERE / "newest.txt", "python3"),
        Environment("node", ROOT / "build/clients/node", HERE / "package-lock.json", "npm"),
    )
}


def main() -> None:
    print("the clients, with all that they need: 1.2 GB, minutes the first time", flush=True)
    for each in ENVIRONMENTS.values():
        if reason := each.install():
            print(f"{each.name}: could not be installed, its clients are skipped: {reason}")


if __name__ == "__main__":
    sys.exit(main())
