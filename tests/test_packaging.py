"""What is installed, and by which versions. All is read from the files, without the network."""

from __future__ import annotations

import importlib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = PROJECT["project"]["name"]
EXTRAS: Mapping[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
]
PINS = [Requirement(line) for line in LINES]
MACHINES = [
    {"python_version": python, "python_full_version": f"{python}.1", "platform_machine": machine}
    for python, machine in itertools.product(("3.11", "3.12", "3.13"), ("x86_64", "aarch64"))
]


def wanted(*extras: str) -> Iterator[Requirement]:
    """What those extras require, each extra that they name included."""
    for line in itertools.chain.from_iterable(EXTRAS[extra] for extra in extras):
        requirement = Requirement(line)
        if requirement.name == OURS:
            yield from wanted(*requirement.extras)
        else:
            yield requirement


def pinned(machine: Mapping[str, str]) -> dict[str, Version]:
    found: dict[str, Version] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate({**machine}):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} has two versions for {machine}"
            found[name] = Version(str(pin.specifier).removeprefix("=="))
    return found


def test_a_line_of_the_lock_is_a_name_a_version_and_a_marker() -> None:
    plain = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; python_full_version (<|>=) '3\.\d+')?")
    assert [line for line in LINES if not plain.fullmatch(line)] == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda each: "-".join(each.values()))
def test_the_lock_keeps_every_bound_of_the_project(machine: dict[str, str]) -> None:
    pins = pinned(machine)
    base = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    for requirement in (*base, *wanted(*EXTRAS)):
        if requirement.marker is None or requirement.marker.evaluate({**machine}):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_the_lock_has_whatever_an_installed_package_needs() -> None:
    """`make upgrade` was run when a dependency came in."""
    pins = {canonicalize_name(pin.name) for pin in PINS}
    waiting = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    waiting += wanted("service", "default-model", "cpu", "loadtest", "test", "lint")
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert name in pins
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in (requirement.extras or {""})]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append(needed)


def test_no_text_says_that_a_registry_has_this_package() -> None:
    """None has it yet, and the public registry's `batcher` is somebody else's."""
    assert OURS == "batcher-serve"
    named = re.compile(r"\b(?<!/)batcher(-serve)?\[")
    sources = [*ROOT.glob("batcher/**/*.py"), *ROOT.glob("service/**/*.py")]
    wrong = [path for path in sources if named.search(path.read_text())]
    assert wrong == []


def test_a_wheel_holds_the_engine_and_the_service_alone() -> None:
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = find_packages(str(ROOT), include=include)
    assert {name.partition(".")[0] for name in packages} == {"batcher", "service"}
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("batcher", "service")
        for path in (ROOT / package).rglob("*.py")
    }
    assert folders == set(packages), "a folder without an __init__.py is not installed"


def test_the_console_command_and_the_version_are_there() -> None:
    module, _, name = PROJECT["project"]["scripts"]["batcher"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    module, _, name = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    assert Version(getattr(importlib.import_module(module), name))
