"""Servers for all clients of a run, and what each of them did: build/clients/table.md."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

from tests.clients.environments import ROOT
from tests.clients.servers import Servers
from tests.clients.verdicts import Verdicts

TABLE = ROOT / "build/clients/table.md"
_LONGEST_TEST = 1200.0  # seconds: the first that asks for a model waits for its server


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    """As for all tests, but later."""
    faulthandler.dump_traceback_later(_LONGEST_TEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # this checkout, whichever one is installed
        for variable in [name for name in os.environ if name.startswith("BATCHER_")]:
            if variable != "BATCHER_CACHE_DIR":
                patch.delenv(variable)
        started = Servers(tmp_path_factory.mktemp("models"))
        yield started
        started.close()


@pytest.fixture(scope="session")
def verdicts() -> Iterator[Verdicts]:
    table = Verdicts()
    yield table
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table.markdown(), encoding="utf-8")
