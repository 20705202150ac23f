"""A service without an engine behind it: the client is a fake, the rest is real."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Answer, BatchReport, Snapshot
from batcher.clock import Clock
from batcher.collector import Collector
from batcher.limits import Limits
from batcher.runner import RunnerInfo
from service.app import create_app
from service.catalog import ServedModel
from service.settings import Settings
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.plain_text import SimulatedTokenizer
from service.tasks.text_inputs import TextPreprocessor
from tests.fakes import FakeClock, report
from tests.service.tiny import run_here

REPORT = dataclasses.replace(
    report(size=12, tokens=480, useful_tokens=300, predicted=0.004, inference=0.005),
    oldest_wait=0.0031,
)


def vector_of(payload: object) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Eight numbers that only this payload has."""
    digest = hashlib.sha256(str(payload).encode()).digest()[:8]
    return np.frombuffer(digest, np.uint8).astype(np.float32) / 255 + 0.01


@dataclass
class Submitted:
    payloads: list[Any]
    costs: list[int]
    deadline: float
    priority: int
    caller: str | None


@dataclass
class FakeClient:
    """Answers at once, with `answer` of the payload, or with `error`. Remembers what it was
    asked."""

    error: Exception | None = None
    answer: Callable[[Any], Any] = field(default=lambda payload: vector_of(payload))
    up: bool = True
    facts: dict[str, Any] = field(default_factory=dict)  # that its replica has reported
    recent: list[BatchReport] = field(default_factory=list)
    submitted: list[Submitted] = field(default_factory=list)
    collector: Collector = field(default_factory=lambda: Collector(Limits(), FakeClock()))

    async def submit(self, payload: Any, **options: Any) -> Any:
        return (await self.submit_all([payload], **options))[0].value

    async def submit_all(
        self,
        payloads: Sequence[Any],
        *,
        costs: Sequence[int] | None = None,
        deadline: float | None = None,
        priority: int = 3,
        caller: str | None = None,
    ) -> list[Answer]:
        assert costs is not None
        assert deadline is not None
        self.submitted.append(Submitted(list(payloads), list(costs), deadline, priority, caller))
        if self.error is not None:
            raise self.error
        return [Answer(self.answer(payload), 0.002, REPORT) for payload in payloads]

    async def recent_batches(self) -> list[BatchReport]:
        return self.recent

    async def snapshot(self) -> Snapshot:
        if self.up:
            facts = {"pid": 1, "device": "cpu", "dtype": "float32", **self.facts}
            self.collector.replica_up(0, RunnerInfo.from_facts(facts))
        return self.collector.snapshot()

    @property
    def last(self) -> Submitted:
        return self.submitted[-1]


@pytest.fixture(autouse=True, scope="session")
def _models_are_read_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.repository.inspection.run", run_here)
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.startswith("BATCHER_") and variable != "BATCHER_CACHE_DIR":
            monkeypatch.delenv(variable)


def served(preprocessor: TextPreprocessor) -> ServedModel:
    """An embedder, whose vectors are as the fake makes them."""
    tasks = {"embed": Embed(preprocessor)}
    limit = preprocessor.max_length
    return ServedModel("tests/tiny", 1_700_000_000, tasks, 8, limit, "mean")


def make_front(client: Any, clock: Clock | None = None, **settings: Any) -> AppState:
    """`clock`: the one of all its parts; a real one where an event loop waits for real."""
    clock = clock or FakeClock(1000.0)
    front = AppState(Settings(**{"model": "tests/tiny", **settings}), client, clock)
    front.jitter = lambda: 0.0
    front.served = served(SimulatedTokenizer(max_length=16))
    return front


@pytest.fixture
def engine() -> FakeClient:
    return FakeClient()


@pytest.fixture
def front(engine: FakeClient) -> AppState:
    return make_front(engine)


@pytest.fixture
def http(front: AppState) -> Iterator[TestClient]:
    with TestClient(create_app(front)) as client:
        yield client


def is_openai_error(body: dict[str, Any]) -> bool:
    return set(body) == {"error"} and set(body["error"]) == {
        "message",
        "type",
        "param",
        "code",
        "request_id",
    }


def is_tei_error(body: dict[str, Any]) -> bool:
    known = {"Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"}
    return (
        set(body) == {"error", "error_type", "code", "request_id"}
        and isinstance(body["error"], str)
        and body["error_type"] in known
    )


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user id without a name, as containers are often started with."""

    def unknown(user: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME", "BATCHER_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards, even if it was unset
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
