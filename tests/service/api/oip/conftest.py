"""Models of several tasks behind a fake engine, and how tensors are written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.catalog import simulated_model
from service.tasks.plain_text import SimulatedTokenizer
from tests.service.conftest import FakeClient, make_front, vector_of
from tests.service.tiny import word_tokenizer

Model = Callable[[str], TestClient]
HEADER = "Inference-Header-Content-Length"
WORDS = {"a": 1, "b": 2, "c": 3}


def answer_of(task: str, payload: Any) -> Any:
    match task:
        case "classify":
            return vector_of(payload)[:3] * 4
        case "score":
            return vector_of(payload)[:1] * 4 - 2
        case "sparse":
            count = len(str(payload)) % 5 + 1
            return np.arange(count, dtype=np.int32) * 3, np.linspace(1, 2, count, dtype=np.float32)
    return vector_of(payload)


@pytest.fixture
def model(engine: FakeClient) -> Model:
    """`ids`: an embedder with a tokenizer."""

    def make(task: str) -> TestClient:
        front = make_front(engine)
        engine.answer = lambda payload: answer_of(task, payload)
        if task != "embed":
            kind = "embed" if task == "ids" else task
            front.served = simulated_model("tests/tiny", kind, SimulatedTokenizer(16), created=0)
        if task == "ids":
            assert front.served is not None
            front.served = dataclasses.replace(front.served, tokenizer=word_tokenizer())
        return TestClient(create_app(front))

    return make


def texts(*values: str, name: str = "text", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": values, **more}


def packed(*values: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in values)


def with_binary(body: dict[str, Any], *parts: bytes) -> dict[str, Any]:
    """What httpx is to send: the JSON and the bytes behind it."""
    head = json.dumps(body).encode()
    return {"content": b"".join((head, *parts)), "headers": {HEADER: str(len(head))}}


def tensors(answer: Any) -> dict[str, Any]:
    """Of an answer in JSON or binary data, by name: arrays of their shape, or lists of bytes."""
    length = answer.headers.get(HEADER.lower())
    raw = answer.content
    told = json.loads(raw if length is None else raw[: int(length)])
    rest = b"" if length is None else raw[int(length) :]
    found: dict[str, Any] = {}
    for output in told["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        assert (size is None) == ("data" in output)
        if output["datatype"] == "BYTES":
            values = (
                [each.encode() for each in output["data"]]
                if size is None
                else unpacked(rest[:size])
            )
            assert len(values) == np.prod(output["shape"])
        else:
            dtype = {"FP32": "<f4", "INT32": "<i4"}[output["datatype"]]
            flat = np.array(output["data"]) if size is None else np.frombuffer(rest[:size], dtype)
            values = flat.astype(dtype).reshape(output["shape"])
        found[output["name"]] = values
        rest = rest[size or 0 :]
    assert rest == b""
    return found


def unpacked(data: bytes) -> list[bytes]:
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end])
        data = data[end:]
    return found
