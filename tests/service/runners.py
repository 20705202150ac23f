"""Runners of the user's own: ones that never come up or break in service, and ones that do not.
Light: a worker imports this file."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from batcher.runner import Runner
from service.models import RunnerConfig


@dataclass(frozen=True)
class BreaksInService:
    """Makes a runner whose ONNX graph fails from the end of its warm-up on."""

    config: RunnerConfig

    def __call__(self) -> Runner:
        from service.models.backends.onnx.session import OnnxBackend
        from service.models.encoder import EncoderRunner

        def breaks(*_: object) -> NoReturn:
            raise RuntimeError("the graph has broken")

        class Breaking(EncoderRunner):
            def warm_up(self) -> Mapping[str, object]:
                facts = super().warm_up()
                OnnxBackend.forward = breaks  # type: ignore[method-assign]  # in a worker only
                return facts

        return Breaking(self.config)


class NeverReady:
    """Loads for ever."""

    def __init__(self, config: object) -> None:
        pass

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return payloads

    def warm_up(self) -> dict[str, object]:
        print(f"warming up for ever in {os.getpid()}", flush=True)
        threading.Event().wait()
        return {}


class NeverLoads:
    """Its model is broken."""

    def __init__(self, config: object) -> None:
        raise RuntimeError("the weights\nare not there")

    def warm_up(self) -> dict[str, object]:
        return {}

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return payloads


class Exits:
    """Takes its whole process along."""

    def __init__(self, config: object) -> None:
        pass

    def warm_up(self) -> dict[str, object]:
        os._exit(9)

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return payloads


class Upper:
    """README's: texts in, texts out."""

    def warm_up(self) -> dict[str, object]:
        return {"model": "upper"}

    def run(self, payloads: Sequence[str]) -> list[str]:
        return [text.upper() for text in payloads]

    def close(self) -> None: ...


def described(payloads: list[Any]) -> list[Any]:
    """Each value with its types; `raise` fails, and `object` is answered with what is no JSON."""
    if "raise" in payloads:
        raise ValueError("asked for")
    return [object() if one == "object" else {"got": one, "as": repr(one)} for one in payloads]
