"""Bounded, repeatable examples, and an end to a test run that hangs."""

from __future__ import annotations

import faulthandler
import gc
import logging
import multiprocessing.resource_tracker
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.fakes import LogWatch, children

# `ci` is the default: the same examples each time. HYPOTHESIS_PROFILE=explore looks for new ones,
# and for many more of them.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(_PROFILE)
_EFFORT = 20 if _PROFILE == "explore" else 1


def examples(count: int, **more: Any) -> settings:
    return settings(max_examples=count * _EFFORT, **more)


_LONGEST_TEST = 120.0 * _EFFORT  # seconds


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    """A test that hangs ends the run, with the stack of every thread, instead of blocking it."""
    faulthandler.dump_traceback_later(_LONGEST_TEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def log() -> Iterator[LogWatch]:
    watch, logger = LogWatch(), logging.getLogger("batcher")
    before = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    yield watch
    logger.setLevel(before)
    logger.removeHandler(watch)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    multiprocessing.resource_tracker.ensure_running()  # one for the life of this process
    before = possessions()
    yield
    assert possessions() == before


def possessions() -> tuple[set[str], set[str], set[int]]:
    """Open descriptors, threads and children of this process."""
    gc.collect()
    descriptors = {
        f"{entry.name} {os.readlink(entry)}"
        for entry in Path("/proc/self/fd").iterdir()
        if os.path.lexists(entry)
    }
    return descriptors, {thread.name for thread in threading.enumerate()}, children()
