"""The console command `batcher`, from any folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import main
from service.version import VERSION

ROOT = Path(__file__).parents[2]

# What pip writes for a console script. Python puts the script's folder on the module path, not the
# working folder.
SCRIPT = """import sys
from service.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["batcher", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        return main()
    except SystemExit as left:
        return int(left.code or 0)


def test_help_names_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert "batcher serve --help" in told
    assert "batcher plan --help" in told


def test_each_command_has_its_own_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, flag in (("serve", "--max-batch-size"), ("plan", "--p95-ms")):
        assert typed(monkeypatch, name, "--help") == 0
        told = capsys.readouterr().out
        assert told.startswith(f"usage: batcher {name} ")
        assert flag in told


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"batcher {VERSION}\n"


@pytest.mark.parametrize("arguments", [(), ("--port", "8123"), ("server",)])
def test_without_a_command_it_says_how_to_start_the_service(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed(monkeypatch, *arguments) == 2
    assert "batcher serve starts the service" in capsys.readouterr().err


def test_a_missing_package_is_one_line_that_names_the_extra() -> None:
    for name in ("serve", "plan"):
        script = f"import sys; sys.modules['pydantic'] = None; sys.argv = ['batcher', '{name}']\n"
        ran = subprocess.run(
            [sys.executable, "-c", script + SCRIPT], cwd=ROOT, capture_output=True, text=True
        )
        assert ran.returncode == 2
        [line] = ran.stderr.splitlines()
        assert "pydantic is not installed" in line
        assert "run pip install -e '.[service]' in the clone" in line


def test_a_package_of_the_working_folder_called_service_is_not_taken_for_this_one(
    tmp_path: Path,
) -> None:
    """And a runner of the user's own is found there."""
    script = tmp_path / "bin/batcher"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    folder = tmp_path / "users"
    for shadow in ("service", "batcher", "api"):
        (folder / shadow).mkdir(parents=True)
        (folder / shadow / "__init__.py").write_text(f"raise SystemExit('users own {shadow}')")
    (folder / "lengths.py").write_text(
        "def lengths(texts):\n    return [[len(t)] for t in texts]\n"
    )
    flags = ["--port=0", "--runner=lengths:lengths", "--task=predict"]
    with subprocess.Popen(
        [sys.executable, script, "serve", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            banner = next((line for line in process.stdout if "is ready" in line), "")
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
        finally:
            process.kill()
    assert re.search(r"batcher \S+ is ready", banner), log


def test_a_key_given_without_a_command_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "--api-key=secret") == 2
    said = capsys.readouterr()
    assert "there is no command '--api-key'" in said.err
    assert "secret" not in said.out + said.err
