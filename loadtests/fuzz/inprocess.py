"""The service's own application without sockets and without an engine: a fuzzer's fast path.

Everything of a request but the HTTP parser runs: middleware, JSON, shapes, the model's own checks,
the answer's encoding. The client answers at once.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from batcher import Answer, BatchReport, Client, Snapshot
from batcher.client import Call
from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.limits import Limits
from loadtests.fuzz.mutations import MODEL, Mutant
from service.app import create_app
from service.arguments import load
from service.catalog import ServedModel
from service.models.simulated import answers
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.plain_text import SimulatedTokenizer

_REPORT = BatchReport(0, 1, 1, 1, 1, 0.0, "idle", 0.0, 0.0, 0.0, 0.0)
_SHOWN = 20  # violations; one is enough to look into


class AtOnce(Client):
    """A client whose engine takes no time."""

    def __init__(self) -> None:
        self._collector = Collector(Limits(), MonotonicClock())

    async def send(self, call: Call) -> list[Answer]:
        return [Answer(vector, 0.0, _REPORT) for vector in answers(call.payloads)]

    async def snapshot(self) -> Snapshot:
        return self._collector.snapshot()

    async def recent_batches(self) -> list[BatchReport]:
        return self._collector.recent_batches()


@dataclass
class FuzzResult:
    """What came of many requests. A violation is an answer that no input may cause."""

    statuses: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.statuses.total()

    def add(self, mutant: Mutant, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        if status >= 500 or status < 200 or not _is_json(body):
            self.violate(f"{mutant.path} {status} {body[:200]!r} to {mutant.body!r}")

    def violate(self, what: str) -> None:
        if len(self.violations) < _SHOWN:
            self.violations.append(what)


class Application:
    """`await application.ask(mutant)`: status and body."""

    def __init__(self) -> None:
        self.front = AppState(
            load({"runner": "simulated", "model": MODEL, "token_ids": "model"}), AtOnce()
        )
        self.front.served = ServedModel(
            MODEL, 0, {"embed": Embed(SimulatedTokenizer())}, dimension=8
        )
        self._app: ASGIApp = create_app(self.front)

    async def try_all(self, mutants: Iterable[Mutant]) -> FuzzResult:
        tried = FuzzResult()
        for mutant in mutants:
            try:
                status, body = await self.ask(mutant)
            except Exception as error:  # whatever reaches the server is a violation: it is counted
                tried.violate(f"{mutant.path} raised {error!r} to {mutant.body!r}")
            else:
                tried.add(mutant, status, body)
        return tried

    async def ask(self, mutant: Mutant) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": mutant.body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": mutant.path,
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
