"""How much of our code does one warm `POST /embed` pass? Files, moves between them, calls.

`python -m loadtests trace [CHECKOUT]` starts the service of a checkout, of this commit or an older
one, and records every Python call of ours while a request runs, in the HTTP process and in the
worker. A move: the next call is of another file than the last. Counted beside it: a file of ours
calls, or returns into, another. `--in-process` has one process only, with the simulated model in
it. Of several requests the one with the fewest calls is reported: the others met a timer.
"""

import argparse
import http.client
import json
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from loadtests.drivers import workloads
from loadtests.drivers.target import count_between
from loadtests.reports.record import Record, commit
from loadtests.revisions import tracer
from loadtests.revisions.interleave import checkout_argument
from loadtests.servers.launch import ROOT, Server, Variant, running

TEXT = "hello world"
WARM_REQUESTS = 50
SETTLE_SECONDS = 0.2  # For what follows an answer: counts, the next wait.
IN_PROCESS = {
    "BATCHER_ISOLATION": "thread",
    "BATCHER_RUNNER": "simulated",
    "BATCHER_SIM_FIXED_MS": "0",
    "BATCHER_SIM_PER_ITEM_MS": "0",
}

Move = tuple[str, str]  # From a file to a file.


@dataclass(frozen=True, slots=True)
class Passed:
    """What one request passed, in all processes."""

    calls: Mapping[str, int]  # By file.
    moves: Sequence[Move]  # From one call to the next.
    crossings: Sequence[Move]  # By call or return.

    @property
    def files(self) -> set[str]:
        """A function of theirs is called, or goes on."""
        return set(self.calls)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkout", nargs="?", type=checkout_argument, default=ROOT)
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--repeats", type=count_between(1, 99), default=9, help="of the request")
    parser.add_argument("--out", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--name", default="trace", help="of the folder, after the date")


def run(args: argparse.Namespace) -> int:
    """The command."""
    traced = trace(args.checkout, IN_PROCESS if args.in_process else {}, args.repeats)
    least = min(traced, key=lambda one: sum(one.calls.values()))
    figures = {
        "files entered": len(least.files),
        "moves between files": len(least.moves),
        "moves between folders": between_folders(least.moves),
        "calls": sum(least.calls.values()),
        "calls and returns into another file": len(least.crossings),
        "calls and returns into another folder": between_folders(least.crossings),
    }
    record = Record(args.out, args.name, {"in_process": args.in_process, "repeats": args.repeats})
    lines = [f"- {name}: {value}" for name, value in figures.items()]
    title = f"The path of a warm POST /embed, {commit(args.checkout)}"
    record.finish(title, "\n".join(lines) + "\n\n" + table(least), {"figures": figures})
    return 0


def trace(checkout: Path, settings: Mapping[str, str], repeats: int) -> list[Passed]:
    """One a request. The service is warm, and idle but for the request."""
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        path, sockets = Path(folder, "path"), Path(folder, "sockets")
        path.mkdir()
        sockets.mkdir()
        # Python imports a module of this name at its start: in the service, and in its children.
        shutil.copy(tracer.__file__, path / "sitecustomize.py")
        given = {
            tracer.ROOT: str(checkout),
            tracer.SOCKETS: str(sockets),
            "PYTHONPATH": f"{path}:{checkout}",
        }
        variant = Variant("traced", "service", (), {**settings, **given})
        with running(variant, checkout=checkout) as server:
            return _traced(server, sockets, repeats)


def _traced(server: Server, sockets: Path, repeats: int) -> list[Passed]:
    connection = http.client.HTTPConnection(server.target.host, server.target.port, timeout=20)
    for number in range(WARM_REQUESTS):  # Each text is its own: equal ones would share an answer.
        _post(connection, f"{TEXT} {number}")
    found = []
    for number in range(repeats):
        processes = [path for path in sockets.iterdir() if int(path.name) in server.pids]
        for path in processes:
            ask(path, "on")
        _post(connection, TEXT if number == 0 else f"{TEXT} again {number}")
        time.sleep(SETTLE_SECONDS)
        found.append(passed([ask(path, "off") for path in processes]))
    connection.close()
    return found


def _post(connection: http.client.HTTPConnection, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/embed", workloads.embed_body(text), headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"POST /embed answered {answer.status}: {body[:300]!r}")


def ask(path: Path, command: str) -> dict[str, Any]:
    """One command to the tracer of one process."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        with connection.makefile("rb") as stream:
            answer: dict[str, Any] = json.load(stream)
            return answer


def passed(records: Sequence[Mapping[str, Any]]) -> Passed:
    """Of one request: what its processes recorded. Pure."""
    calls: Counter[str] = Counter()
    moves: list[Move] = []
    crossings: list[Move] = []
    for record in records:
        called = [file for event, file, _ in record["events"] if event == "call"]
        calls.update(called)
        moves += [(here, there) for here, there in pairwise(called) if here != there]
        crossings += [
            (caller, file) if event == "call" else (file, caller)
            for event, file, caller in record["events"]
            if caller is not None and caller != file
        ]
    return Passed(calls, moves, crossings)


def between_folders(moves: Sequence[Move]) -> int:
    return sum(folder(here) != folder(there) for here, there in moves)


def folder(file: str) -> str:
    return str(PurePosixPath(file).parent)


def table(one: Passed) -> str:
    """The files by how often they are moved into."""
    visits = Counter(there for _, there in one.moves)
    lines = ["| file | moves into it | calls |", "|---|---|---|"]
    lines += [
        f"| {file} | {visits[file]} | {one.calls.get(file, 0)} |"
        for file in sorted(one.files, key=lambda file: (-visits[file], file))
    ]
    return "\n".join(lines)
