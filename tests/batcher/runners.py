"""Runners for worker processes: each payload says what is to happen. Imported by the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes import Echo


class Obedient(Echo):
    """Does what the payloads say; echoes those that say nothing."""

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return [self._one(payload) for payload in payloads]

    def _one(self, payload: Any) -> Any:
        match payload:
            case "pid":
                return os.getpid()
            case "raise":
                raise ValueError("a bad\n  input")
            case "fail this one":
                return Needy("its reason", 7)
            case "raise needy":
                raise Needy("its reason", 7)
            case "exit":
                print("last words", flush=True)
                os._exit(7)
            case "sys.exit":
                sys.exit(9)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                print("hanging", flush=True)
                threading.Event().wait()
            case "signal":
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.kill(os.getpid(), number)
                return "still here"
            case "child":
                # It holds the worker's output open, and outlives it.
                return subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL).pid
            case "lambda":
                return lambda: None
            case "local":
                return OnlyHere()
            case ("print", text):
                print(text)
                return None
            case ("write", text):
                sys.stderr.write(text)
                return None
        return payload


class Needy(Exception):
    """Pickles, but does not unpickle, as exceptions with arguments of their own do."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"{reason}, {code}")


class OnlyHere:
    """Leaves the worker, and cannot be read by anyone."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _refuse_to_load, ("what only the worker knows",)


def _refuse_to_load(what: str) -> None:
    raise LookupError(what)


class Returns(Echo):
    """Returns the same from each run, whatever came in."""

    def __init__(self, results: Any) -> None:
        self.results = results

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return self.results  # type: ignore[no-any-return]


class Generates(Echo):
    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return (payload for payload in payloads)  # type: ignore[return-value]


class DoesNotLoad(Echo):
    def warm_up(self) -> Mapping[str, object]:
        raise FileNotFoundError("no weights in /nowhere")


class DiesLoading(Echo):
    def warm_up(self) -> Mapping[str, object]:
        print("mapping the weights", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


class HangsLoading(Echo):
    def warm_up(self) -> Mapping[str, object]:
        print("loading", flush=True)
        threading.Event().wait()
        return {}


class NoFacts(Echo):
    def warm_up(self) -> Mapping[str, object]:
        return None  # type: ignore[return-value]


class OddFacts(Echo):
    def warm_up(self) -> Mapping[str, object]:
        return {"lambda": lambda: None}


class LeavesANote(Obedient):
    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        with open(self.path, "w") as note:
            note.write("closed")
