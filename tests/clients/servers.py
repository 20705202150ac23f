"""One real server process for each kind of model, started when a client first asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.service.processes.test_server import Server
from tests.service.taggers import make_nli, make_tagger
from tests.service.tiny import make_classifier
from tests.service.tiny_images import make_image_classifier, make_image_embedder

NAMES = {0: "bad", 1: "good", 2: "so so"}
# The default model is real; the others are tiny, with random weights from a fixed seed.
MODELS: Mapping[str, Callable[[Path], Path]] = {
    "classify": lambda folder: make_classifier(folder, "bert", id2label=NAMES),
    "score": lambda folder: make_classifier(folder, "bert", 1),
    "tag": lambda folder: make_tagger(folder, "bert"),
    "nli": lambda folder: make_nli(folder, "bert"),
    "image-classify": make_image_classifier,
    "image-embed": make_image_embedder,
}
# Runs few inputs at a time and has room for few more: some of the callers are refused at first.
BUSY = (
    *("--runner", "simulated", "--sim-fixed-ms", "2000", "--max-batch-size", "1"),
    *("--max-queue-size", "2"),
)


class Servers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Server] = {}

    def __getitem__(self, kind: str) -> Server:
        if kind not in self._running:
            self._running[kind] = Server(*self._flags(kind))
        return self._running[kind]

    def _flags(self, kind: str) -> list[str]:
        if kind == "embed":
            return []
        if kind == "busy":
            return list(BUSY)
        return ["--model", str(MODELS[kind](self._folder / kind))]

    def close(self) -> None:
        for server in self._running.values():
            assert server.end(signal.SIGTERM) == 0
