"""Runners for worker processes: each payload says what is to happen. Imported by the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batcher.errors import RunnerFailed
from batcher.workers.pipe import HEAD, MARK, BatchFailed, pack
from tests.fakes import PATIENCE, Echo


class Obedient(Echo):
    """Does what the payloads say; echoes those that say nothing."""

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return [self._one(payload, payloads) for payload in payloads]

    def _one(self, payload: Any, payloads: Sequence[Any]) -> Any:
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
            case "device":
                raise RuntimeError("CUDA error: device-side assert triggered")
            case "memory":
                if len(payloads) > 2:
                    raise MemoryError(f"{len(payloads)} inputs do not fit")
            case ("kill once", note):
                if _is_first(note):
                    os.kill(os.getpid(), signal.SIGKILL)
            case "garbage":
                _write_to_channel(b"hello")
            case "length":
                _write_to_channel(MARK + b"\xff" * 16)
            case "fork and die":
                # The child holds the channel open, and all else; it leaves in time.
                if os.fork() == 0:
                    threading.Event().wait(PATIENCE)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            case "torn":
                _write_to_channel(HEAD.pack(MARK, 1, 4096) + b"some")  # 4 KiB were announced
                os._exit(7)
            case "half a frame":
                _write_to_channel(HEAD.pack(MARK, 1, 4096) + b"some")  # and then nothing more
                threading.Event().wait()
            case "replay":
                _write_to_channel(pack(1, BatchFailed("an old answer")))
            case "foresight":
                _write_to_channel(pack(10**6, BatchFailed("an answer to what was not asked")))
            case ("print", text):
                print(text)
                return None
            case ("write", text):
                sys.stderr.write(text)
                return None
        return payload


def _is_first(note: str) -> bool:
    """The first time that anybody asks for this path."""
    try:
        with open(note, "x"):
            return True
    except FileExistsError:
        return False


def _write_to_channel(data: bytes) -> None:
    """As a native library that has lost its way would."""
    for name in os.listdir("/proc/self/fd"):
        try:
            is_socket = os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the one that listed them
            continue
        if is_socket:
            os.write(int(name), data)


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


class SaysWhatToChange(Echo):
    def warm_up(self) -> Mapping[str, object]:
        raise RunnerFailed("set another device")


class DiesLoading(Echo):
    """Each time, or with a path for a note only the first time."""

    def __init__(self, note: str = "") -> None:
        self.note = note

    def warm_up(self) -> Mapping[str, object]:
        print("mapping the weights", flush=True)
        if not self.note or _is_first(self.note):
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


class WrongFacts(Echo):
    def warm_up(self) -> Mapping[str, object]:
        return {"dimension": "384 numbers"}


class LeavesANote(Obedient):
    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        with open(self.path, "w") as note:
            note.write("closed")


class BreaksOnRequests(Echo):
    """It loads, it passes its canary, and every request kills it."""

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        if payloads[0] != "canary":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(payloads)


class LoadsOnce(Obedient):
    """The second time it hangs while loading."""

    def __init__(self, note: str) -> None:
        self.note = note

    def warm_up(self) -> Mapping[str, object]:
        if _is_first(self.note):
            return super().warm_up()
        print("loading again", flush=True)
        threading.Event().wait()
        return {}


class Launches(Obedient):
    """Says in its answers which launches and results had come before."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.second = threading.Event()

    def launch(self, payloads: Sequence[Any]) -> Callable[[], Sequence[Any]]:
        if "refuse" in payloads:
            raise MemoryError("no room to launch it")
        self.log.append(f"launch {payloads[0]}")
        if payloads[0] == "b":
            self.second.set()

        def finish() -> Sequence[Any]:
            if payloads[0] == "a":
                assert self.second.wait(PATIENCE), "the second was not launched while the first ran"
            self.log.append(f"finish {payloads[0]}")
            return [list(self.log) for _ in payloads]

        return finish
