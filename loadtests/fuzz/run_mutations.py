"""A million requests, each a few bytes away from a valid one. None may get an error of ours, or an
answer that is not right for what it says.

Nine in ten are bodies, tried in this process on the service's own application, with everything but
the HTTP parser (as many processes as asked for), for a model of every task. The rest go to real
servers, over TCP, a unix socket and TLS: bodies pipelined on kept connections, and whole requests,
head and all, on connections of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import uvloop

from loadtests.drivers.raw_http import exchange
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.drivers.timer import now
from loadtests.fuzz import mutations, right_answers
from loadtests.fuzz.inprocess import FuzzResult, try_all
from loadtests.fuzz.seeds import MODEL, SIMULATED, VALID
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers import certificate
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, Variant, running, service

TITLE = "Mutated requests"
PIPELINED = 16  # on one connection
CONNECTIONS = 16
PIECE = 5_000  # mutants a piece of work
WARM_UP = 0.1  # of the requests to a server, before its memory is read
PATIENCE = 2.0  # seconds; of a request that may not be whole, over TLS: it cannot say that it ends
LONGEST = 60.0  # seconds until all is answered, on a machine that others use
GROWTH = 4.0  # MiB; of a server. Allocators keep some of what was freed
KEPT = 16.0  # MiB; of a process that tries bodies
LOOKS, PAUSE = 20, 0.1  # seconds
MIB = 2**20
AHEAD = 2  # pieces of work for each process: one runs, one waits
T = TypeVar("T")
WAYS = ("tcp", "unix", "tls")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=count_between(1000, 10_000_000), default=1_000_000)
    parser.add_argument("--sockets", type=count_between(1, 90), default=10, help="%% over sockets")
    parser.add_argument("--processes", type=count_between(1, 64), default=2)
    parser.add_argument("--tasks", choices=VALID, nargs="+", default=list(VALID))
    parser.add_argument("--over", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seconds",
        type=number_between(10, 100_000),
        help="at most, in process and again over sockets; what was reached is told",
    )


@dataclass
class Sent:
    """What came back over sockets: `whole` are heads and bodies, one a connection."""

    is_simulated: bool = True  # the model, of whose answers is known which are right
    bodies: Counter[int] = field(default_factory=Counter)
    whole: Counter[int] = field(default_factory=Counter)
    closed: int = 0  # without an answer: a mutant need not be a whole request
    violations: list[str] = field(default_factory=list)
    count: int = 0  # of the requests


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of one server."""

    name: str
    sent: Sent
    growth: float  # MiB, of all its processes
    descriptors: int  # more than before
    alive: bool


def measure(args: argparse.Namespace, record: Record) -> Measured:
    began, limit = now(), args.seconds or math.inf
    over_sockets = args.count * args.sockets // 100
    tried, kept = _in_process(args.count - over_sockets, args, began + limit)
    middle = now()
    print(f"in process: {tried.count} in {middle - began:.0f} s {dict(tried.statuses)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        legs = list(_legs(args.tasks, args.over, Path(folder)))
        count = over_sockets // max(1, len(legs))
        watched = []
        for place, (task, variant) in enumerate(legs, 1):
            until = middle + limit * place / len(legs)
            watched.append(_over_sockets(task, variant, count, args, until))
            print(watched[-1].name, _tell(watched[-1].sent.bodies), flush=True)
    told = [*tried.violations, *(each for leg in watched for each in leg.sent.violations)]
    record.text("violations.txt", "\n".join(told) + "\n")
    findings = [
        Finding("bodies tried in process", tried.count),
        Finding("requests over sockets", sum(leg.sent.count for leg in watched)),
        none("answers that are errors of ours, or wrong", len(told)),
        at_most("most growth of a process that tried bodies", kept, KEPT, "MiB"),
        at_most(
            "most growth of a server",
            max((leg.growth for leg in watched), default=0.0),
            GROWTH,
            "MiB",
        ),
        at_most(
            "most growth of its descriptors",
            max((leg.descriptors for leg in watched), default=0),
            0,
        ),
        none("servers that did not answer afterwards", sum(not leg.alive for leg in watched)),
        Finding("seconds in process", middle - began, "s"),
        Finding("seconds over sockets", now() - middle, "s"),
    ]
    notes = [f"- in process: {_tell(tried.statuses)}", *map(_note, watched)]
    return Measured(findings, "\n".join(notes))


def _note(leg: Watched) -> str:
    return (
        f"- {leg.name}: {leg.growth:+.2f} MiB, {leg.descriptors:+d} descriptors;"
        f" bodies {_tell(leg.sent.bodies)}; whole requests {_tell(leg.sent.whole)},"
        f" {leg.sent.closed} closed unanswered"
    )


def _in_process(count: int, args: argparse.Namespace, until: float) -> tuple[FuzzResult, float]:
    """And the MiB that a process has grown by, from its second piece of work to its last."""
    pieces = (
        (min(PIECE, count - first), args.seed + first, tuple(args.tasks))
        for first in range(0, count, PIECE)
    )
    total, sizes = FuzzResult(), dict[int, list[int]]()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=spawn) as pool:
        begun = itertools.islice(pieces, AHEAD * args.processes)
        running = {pool.submit(_try_piece, piece) for piece in begun}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for tried, pid, resident in (each.result() for each in done):
                total.statuses += tried.statuses
                sizes.setdefault(pid, []).append(resident)
                for what in tried.violations:
                    total.violate(what)
            if now() < until:
                more = itertools.islice(pieces, len(done))
                running |= {pool.submit(_try_piece, piece) for piece in more}
    grown = [(of_one[-1] - of_one[1]) / MIB for of_one in sizes.values() if len(of_one) > 1]
    return total, max(grown, default=0.0)


def _try_piece(piece: tuple[int, int, tuple[str, ...]]) -> tuple[FuzzResult, int, int]:
    """And this process, and its memory."""
    tried = asyncio.run(try_all(mutations.bodies(*piece)))
    return tried, os.getpid(), processes.resident_bytes([os.getpid()])


def _legs(tasks: Sequence[str], ways: Sequence[str], folder: Path) -> Iterator[tuple[str, Variant]]:
    """Task and server: one of each task over TCP, and the first of them the other ways, too."""
    simulated = [task for task in SIMULATED if task in tasks]
    if "tcp" in ways:
        yield from ((task, _variant(task, "tcp", {})) for task in simulated)
    for way in ways if simulated else ():
        if way == "unix":
            socket = {"unix_socket": str(folder / "http.sock")}
            yield simulated[0], _variant(simulated[0], way, socket)
        elif way == "tls":
            cert, key = certificate.make(folder)
            files = {"tls_cert": str(cert), "tls_key": str(key)}
            yield simulated[0], _variant(simulated[0], way, files)


def _variant(task: str, way: str, settings: Mapping[str, str]) -> Variant:
    return service(
        f"{task} over {way}",
        runner="simulated",
        model=MODEL,
        task=task,
        token_ids="model",
        sim_fixed_ms=0,
        sim_per_item_ms=0,
        **settings,
    )


def _over_sockets(
    task: str, variant: Variant, count: int, args: argparse.Namespace, until: float
) -> Watched:
    with running(variant, args.cpus) as server:
        _send(server, round(count * WARM_UP), args.seed + 1_000_000, task, until)
        pids = server.pids
        memory, files = processes.resident_bytes(pids), _kept(pids, 0)
        sent = _send(server, count, args.seed, task, until)
        more = _kept(pids, files)
        growth = (processes.resident_bytes(pids) - memory) / MIB
        alive = server.get("/health/live")[0] == 200
    return Watched(variant.name, sent, growth, more, alive)


def _kept(pids: list[int], before: int) -> int:
    """Descriptors more than before, once the last connections have ended: the fewest seen in
    two seconds."""
    fewest = processes.descriptors(pids) - before
    for _ in range(LOOKS):
        if fewest <= 0:
            break
        time.sleep(PAUSE)
        fewest = min(fewest, processes.descriptors(pids) - before)
    return fewest


def _send(server: Server, count: int, seed: int, task: str, until: float) -> Sent:
    sent = Sent()
    uvloop.run(send(server.target, count, seed, sent, task, until))
    return sent


async def send(
    target: Target,
    count: int,
    seed: int,
    sent: Sent,
    task: str = "embed",
    until: float = math.inf,
) -> None:
    """Half of them bodies in trains, half whole requests on connections of their own; fewer where
    time is over."""
    half, middle = count // 2, now() + (until - now()) / 2
    trains = _trains(_while_time(mutations.bodies(half, seed, [task]), middle))
    await asyncio.gather(*(_pipeline(target, trains, sent) for _ in range(CONNECTIONS)))
    closing = target.is_tls
    whole = _while_time(mutations.requests(count - half, seed, [task], closing=closing), until)
    await asyncio.gather(*(_one_by_one(target, whole, sent) for _ in range(CONNECTIONS)))


def _while_time(mutants: Iterator[T], until: float) -> Iterator[T]:
    return itertools.takewhile(lambda _: now() < until, mutants)


def _trains(mutants: Iterator[mutations.Mutant]) -> Iterator[list[mutations.Mutant]]:
    while train := list(itertools.islice(mutants, PIPELINED)):
        yield train


async def _pipeline(target: Target, trains: Iterator[list[mutations.Mutant]], sent: Sent) -> None:
    """Well-formed heads around mutated bodies: each must have its answer, in one train."""
    for train in trains:
        *others, last = train
        end = ["Connection: close"] * target.is_tls  # else the half-closed connection says so
        data = b"".join([*(mutant.request() for mutant in others), last.request(*end)])
        reply = await exchange(target, [data], seconds=LONGEST)
        answers = reply.answers
        sent.count += len(train)
        sent.bodies.update(status for status, _ in answers)
        if not reply.ended or len(answers) != len(train):
            sent.violations.append(f"ended {reply.ended}, {reply.statuses} to {data!r}")
        for mutant, (status, body) in zip(train, answers, strict=False):
            if status == 200 and not sent.is_simulated:
                continue
            fault = right_answers.fault(mutant, status, body)
            if fault is not None:
                sent.violations.append(f"{status} {body[:200]!r}: {fault}; to {mutant}")


async def _one_by_one(target: Target, requests: Iterator[bytes], sent: Sent) -> None:
    for data in requests:
        seconds = PATIENCE if target.is_tls else LONGEST
        reply = await exchange(target, [data], seconds=seconds)
        sent.count += 1
        sent.whole.update(reply.statuses)
        sent.closed += not reply.statuses
        ended = reply.ended or target.is_tls
        # 504: a mutated timeout may be one millisecond.
        if not ended or any(status >= 500 and status != 504 for status in reply.statuses):
            sent.violations.append(f"ended {ended}, {reply.statuses} to {data!r}")


def _tell(statuses: Counter[int]) -> str:
    return " ".join(f"{status}:{count}" for status, count in sorted(statuses.items()))
