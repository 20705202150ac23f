"""Bounded, repeatable examples, and an end to a test run that hangs."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# `ci` is the default: the same examples each time. `HYPOTHESIS_PROFILE=explore` looks for new ones.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=5000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_LONGEST_TEST = 120.0  # seconds


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    """A test that hangs ends the run, with the stack of every thread, instead of blocking it."""
    faulthandler.dump_traceback_later(_LONGEST_TEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
