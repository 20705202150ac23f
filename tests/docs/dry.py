"""Commands that are checked and not run: their program, target and flags must be there."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Sequence

from loadtests.__main__ import parser as loadtests_parser
from service.arguments import load, parse
from service.plan.flags import ask
from tests.docs.blocks import ROOT

PLACES = ("OLD", "NEW")  # of two checkouts, in the pages


def check(command: str) -> None:
    """Raises AssertionError, or what the parser raises, if the command could not run."""
    words = [str(ROOT) if word in PLACES else word for word in shlex.split(command)]
    given: dict[str, str] = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        given[name] = value
    match words:
        case ["make", *targets]:
            made = ["make", "-n", *targets]
            subprocess.run(made, cwd=ROOT, check=True, capture_output=True, timeout=30)
        case ["python", "-m", "loadtests", *flags]:
            _parse(loadtests_parser(), flags)
        case ["python", "-m", "loadtests.peers.install", _]:
            assert (ROOT / "loadtests/peers/install.py").exists()
        case ["batcher", "serve", *flags]:
            _check_serve(flags, given)
        case ["batcher", "plan", *flags]:
            ask(flags)
        case ["pip", "install", "-e", what] | ["python", "-m", "pip", "install", "-e", what]:
            _check_extras(what)
        case ["pip", "install", package]:
            _check_package(package)
        case ["python", "docs/generate.py"] | ["git", "clone", _] | ["cd", _] | ["kill", *_]:
            pass
        case [".", ".venv/bin/activate"]:
            pass
        case ["locust", "-f", path, *_]:
            assert (ROOT / path).exists()
        case [path, *_] if "/" in path:
            assert os.access(ROOT / path, os.X_OK), f"{path} cannot be run"
        case _:
            raise AssertionError(f"nobody knows how to check {command!r}")


def _parse(parser: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    said = io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            parser.parse_args(flags)
        except SystemExit as error:
            code = error.code
    assert code == 0, said.getvalue()


def _check_serve(flags: Sequence[str], given: dict[str, str]) -> None:
    before = dict(os.environ)
    os.environ.update(given)
    try:
        options = parse(flags)
        options.pop("print_config")
        load(options)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _check_extras(what: str) -> None:
    found = re.fullmatch(r"\.\[([\w,-]+)\]", what)
    assert found is not None, f"{what}: an editable install of this folder, with extras"
    assert set(found[1].split(",")) <= set(_extras())


def _check_package(name: str) -> None:
    """One of those that the project itself uses: a misspelt name is somebody else's package."""
    assert any(re.match(rf"{name}\b", each) for extra in _extras().values() for each in extra)


def _extras() -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return extras
