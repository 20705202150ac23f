"""The service's own application without sockets and without an engine: a fuzzer's fast path.

Everything of a request but the HTTP parser runs: middleware, JSON, shapes, the model's own checks,
the answer's encoding. The client answers at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from starlette.types import ASGIApp

from batcher import Answer, BatchReport, Client, Snapshot
from batcher.client import Call
from batcher.clock import MonotonicClock
from batcher.collector import Collector
from batcher.limits import Limits
from batcher.runner import RunnerInfo
from loadtests.fuzz import right_answers
from loadtests.fuzz.mutations import Mutant
from loadtests.fuzz.seeds import LABELS, MODEL
from loadtests.models import tokenizers
from service.app import create_app
from service.arguments import load
from service.catalog import ServedModel, simulated_model, vision_model
from service.models.simulated import DIMENSION, answers
from service.repository.spec import EncoderSpec
from service.repository.vision import simulated_spec
from service.state import AppState
from service.tasks.all_tokens import AllTokens
from service.tasks.classify import Classify
from service.tasks.custom import Predict
from service.tasks.decoding import ImageDecoder
from service.tasks.embed import Embed
from service.tasks.plain_text import SimulatedTokenizer
from service.tasks.tag import Tag
from service.tasks.text import TextTokenizer
from service.tasks.zero_shot import ZeroShot

_REPORT = BatchReport(0, 1, 1, 1, 1, 0.0, "idle", 0.0, 0.0, 0.0, 0.0)
_SIMILARITY = {"logit_scale": 10.0, "logit_bias": 0.0, "zero_shot": "softmax"}
_READS = 12  # tokens at once, of a tagger
_MOST_PIXELS = 1_000_000
_SHOWN = 20  # violations; one is enough to look into


class AtOnce(Client):
    """A client whose engine takes no time. `answer`: what it is, to a payload."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self._collector = Collector(Limits(), MonotonicClock())
        info = RunnerInfo(pid=1, device="cpu", dtype="float32", details=_SIMILARITY)
        self._collector.replica_up(0, info)

    async def send(self, call: Call) -> list[Answer]:
        return [Answer(self._answer(payload), 0.0, _REPORT) for payload in call.payloads]

    async def snapshot(self) -> Snapshot:
        return self._collector.snapshot()

    async def recent_batches(self) -> list[BatchReport]:
        return self._collector.recent_batches()


def _vector(payload: Any) -> Any:
    """Eight numbers that only this payload has."""
    if isinstance(payload, dict):  # for POST /embed_all: a row for each word
        return answers(payload["input_ids"].split() or [""])
    if isinstance(payload, np.ndarray):
        payload = payload.tobytes().hex()
    return answers([payload])[0]


def _with_length(payload: Any) -> Any:
    """As the worker of a model of images answers: of length 1, and the length that it had."""
    vector = _vector(payload)
    length = np.linalg.norm(vector)
    return np.append(vector / length, length).astype(np.float32)


def _weights(payload: str) -> Any:
    return np.arange(DIMENSION, dtype=np.int32), np.abs(answers([payload])[0])


def _tags(ids: Any) -> Any:
    return answers([str(each) for each in ids.tolist()])[:, : len(LABELS)]


_ANSWERS: Mapping[str, Callable[[Any], Any]] = {
    "sparse": _weights,
    "tag": _tags,
    "score": lambda payload: _vector(payload)[:1],
    "classify": lambda payload: _vector(payload)[: len(LABELS)],
    "image-classify": lambda payload: _vector(payload)[: len(LABELS)],
    "image-embed": _with_length,
    "predict": lambda payload: payload,
}


def _served(task: str) -> ServedModel:
    text = SimulatedTokenizer()
    match task:
        case "embed":
            tasks: Mapping[str, Any] = {
                "embed": Embed(text),
                AllTokens.name: AllTokens(text, DIMENSION),
            }
            return ServedModel(MODEL, 0, tasks, dimension=DIMENSION)
        case "classify":
            tasks = {
                "classify": Classify(text, LABELS, "softmax"),
                ZeroShot.name: ZeroShot(text, LABELS, LABELS.index("entailment")),
            }
            return ServedModel(MODEL, 0, tasks)
        case "tag":
            reads = _tokenizer()
            return ServedModel(MODEL, 0, {"tag": Tag(reads, LABELS, "[UNK]")}, tokenizer=reads)
        case "predict":
            return ServedModel(MODEL, 0, {"predict": Predict()}, is_own=True)
        case "image-classify" | "image-embed":
            spec = simulated_spec(task, LABELS)
            images = ImageDecoder(_MOST_PIXELS, spec.cost, spec.processor)
            return vision_model(MODEL, spec, images, text, 0)
    return simulated_model(MODEL, task, text, 0)


def _tokenizer() -> TextTokenizer:
    library = tokenizers.make("bert")
    spec = EncoderSpec(
        folder=Path(),
        pooling="mean",
        normalize=True,
        max_length=_READS,
        dimension=DIMENSION,
        vocab_size=library.get_vocab_size(),
        pad_id=0,
        prompt="",
    )
    return TextTokenizer(library, spec)


@dataclass
class FuzzResult:
    """What came of many requests. A violation is an answer that no input may cause, or that is
    wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.statuses.total()

    def add(self, mutant: Mutant, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        fault = right_answers.fault(mutant, status, body)
        if fault is not None:
            told = f"{mutant.task} {mutant.path} {status} {body[:200]!r}: {fault}"
            self.violate(f"{told}; to {mutant.coding} {mutant.body!r}")

    def violate(self, what: str) -> None:
        if len(self.violations) < _SHOWN:
            self.violations.append(what)


class Application:
    """With a model for that task. `await application.ask(mutant)`: status and body."""

    def __init__(self, task: str = "embed") -> None:
        settings = load({"runner": "simulated", "model": MODEL, "token_ids": "model"})
        self.front = AppState(settings, AtOnce(_ANSWERS.get(task, _vector)))
        self.front.served = _served(task)
        self._app: ASGIApp = create_app(self.front)

    async def ask(self, mutant: Mutant) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": mutant.body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        named = mutant.headers.items()
        scope = {
            "type": "http",
            "method": "POST",
            "path": mutant.path,
            "headers": [(name.lower().encode(), value.encode()) for name, value in named],
            "query_string": b"",
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


async def try_all(mutants: Iterable[Mutant]) -> FuzzResult:
    """Each on an application with a model for its task."""
    tried = FuzzResult()
    applications: dict[str, Application] = {}
    try:
        for mutant in mutants:
            if mutant.task not in applications:
                applications[mutant.task] = Application(mutant.task)
            try:
                status, body = await applications[mutant.task].ask(mutant)
            except Exception as error:  # whatever reaches the server is a violation: it is counted
                tried.violate(f"{mutant.task} {mutant.path} raised {error!r} to {mutant.body!r}")
            else:
                tried.add(mutant, status, body)
    finally:
        for application in applications.values():
            application.front.close()
    return tried
