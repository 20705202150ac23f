"""How many examples, and what a test of the engine may leave behind."""

from __future__ import annotations

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

from tests.conftest import EFFORT
from tests.fakes import LogWatch, children


def examples(count: int, **more: Any) -> settings:
    return settings(max_examples=count * EFFORT, **more)


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
