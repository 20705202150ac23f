"""Models as a user would write them. Light: workers import this file."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np

from batcher import BadInput, Model, Request, Response, Tensor


class Doubles(Model):
    """Texts of numbers to arrays, doubled in one go, to JSON. Some texts are drills."""

    def setup(self, device: str) -> None:
        self.device = device
        self.factor = 2.0

    def setup_cpu(self) -> None:
        self.pid = os.getpid()

    def preprocess(self, request: Any) -> Any:
        text = request.body.decode() if isinstance(request, Request) else request
        match text:
            case "bad":
                raise BadInput("this one is bad")
            case "raise":
                raise ValueError("preprocess broke")
            case "object":
                return object()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "cpu":
                return {"pid": np.array(self.pid), "numbers": np.zeros(1)}
        return np.array([float(word) for word in text.split()])

    def predict(self, batch: Any) -> Any:
        if isinstance(batch, dict):
            return [[float(pid), float(os.getpid())] for pid in batch["pid"]]
        if isinstance(batch, list):
            return [self.factor * each for each in batch]
        if (batch == 13).any():
            raise ValueError("predict broke")
        return self.factor * batch

    def postprocess(self, output: Any) -> Any:
        if isinstance(output, list):  # process ids
            return [int(each) for each in output] + [os.getpid()]
        if output[0] == 2 * 7:
            raise BadInput("seven is not answered")
        if output[0] == 2 * 8:
            return Response(b"<eight/>", "image/svg+xml")
        if output[0] == 2 * 9:
            return b"nine"
        return {"doubled": output.tolist(), "batch": len(output)}


class Duck:
    """Not derived from Model: it has a predict."""

    def predict(self, batch: list[str]) -> list[str]:
        return [text.upper() for text in batch]


class Nothing(Model):
    """It has no predict."""


class Declared(Model):
    inputs = (Tensor("x", "float32", (2,)),)
    outputs = (Tensor("total", "float32"),)

    def predict(self, batch: Any) -> Any:
        assert (batch.dtype, batch.shape[1:]) == (np.float32, (2,))
        return batch.sum(axis=1)


class Two(Model):
    inputs = (Tensor("ids", "int64", (-1,)), ("name", "bytes"))  # type: ignore[assignment]

    def predict(self, batch: Any) -> Any:
        return [{"name": each["name"].decode(), "sum": int(each["ids"].sum())} for each in batch]


class Columns(Model):
    """A dict of arrays has the rows of each output."""

    def predict(self, batch: Sequence[Any]) -> Any:
        count = len(batch) + (batch[0] == "wrong")
        return {"length": np.array([len(each) for each in batch] * 2)[:count], "as": list(batch)}


class Overlaps(Model):
    """A device that works while the process goes on."""

    def predict(self, batch: Any) -> Any:
        raise AssertionError("it is launched")

    def launch(self, batch: list[int]) -> Any:
        return lambda: [2 * each for each in batch]
