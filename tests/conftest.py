"""Bounded, repeatable examples, and an end to a test run that hangs. For all tests."""

from __future__ import annotations

import faulthandler
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# `ci` is the default: the same examples each time. HYPOTHESIS_PROFILE=explore looks for new ones,
# and for many more of them.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(_PROFILE)
EFFORT = 20 if _PROFILE == "explore" else 1

# A forward pass of two threads spins where they wait for each other: with a test process on each
# core, an inspection of the default model takes 17 s of CPU time, and 1.6 s with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_LONGEST_TEST = 120.0 * EFFORT  # seconds

# Files that take 5 s of CPU time and more. They begin first, so that the two processes of `make
# test` end together: xdist alone begins with the files of many tests, which are short.
_LONGEST_FILES = (
    "service/processes/test_server.py",
    "service/processes/test_frontends.py",
    "service/fuzz/test_openapi.py",
    "batcher/workers/test_process.py",
    "service/processes/test_tasks.py",
    "service/models/backends/onnx/test_session.py",
    "batcher/test_engine.py",
    "docs/test_blocks.py",
    "batcher/scheduling/test_simulate.py",
    "loadtests/checks/test_models.py",
    "service/models/backends/test_fallback.py",
    "service/models/backends/torch/test_compiled.py",
    "service/models/test_encoder.py",
    "service/api/test_hub_images.py",
    "service/models/reference/test_dense.py",
    "loadtests/tune/test_command.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(_LONGEST_FILES)}
    assert all(file.is_file() for file in places), "a file of _LONGEST_FILES has moved"
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_saved_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """And the first service that starts measures the model for all that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_not_walked_over() -> None:
    """Many tests collect garbage; torch and hypothesis are half a million objects that are none."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    """A test that hangs ends the run, with the stack of every thread, instead of blocking it."""
    faulthandler.dump_traceback_later(_LONGEST_TEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
