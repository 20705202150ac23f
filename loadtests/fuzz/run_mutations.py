"""A million requests, each a few bytes away from a valid one. None may get an error of ours.

Nine in ten are bodies, tried in this process on the service's own application, with everything but
the HTTP parser (as many processes as asked for). The rest go to a real server: bodies pipelined on
kept connections, and whole requests, head and all, on connections of their own.
"""

import argparse
import asyncio
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import uvloop

from loadtests.drivers.raw_http import exchange
from loadtests.drivers.target import Target, count_between
from loadtests.drivers.timer import now
from loadtests.fuzz import mutations
from loadtests.fuzz.inprocess import Application, FuzzResult
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, running, service

TITLE = "Mutated requests"
PIPELINED = 16  # on one connection
CONNECTIONS = 16
PIECE = 10_000  # mutants a piece of work
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=count_between(1000, 10_000_000), default=1_000_000)
    parser.add_argument("--sockets", type=count_between(1, 90), default=10, help="%% over sockets")
    parser.add_argument("--processes", type=count_between(1, 64), default=2)
    parser.add_argument("--seed", type=int, default=1)


@dataclass
class Sent:
    """What came back over sockets: `whole` are heads and bodies, one a connection."""

    bodies: Counter[int] = field(default_factory=Counter)
    whole: Counter[int] = field(default_factory=Counter)
    closed: int = 0  # without an answer: a mutant need not be a whole request
    violations: list[str] = field(default_factory=list)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    over_sockets = args.count * args.sockets // 100
    began = now()
    tried = _in_process(args.count - over_sockets, args.seed, args.processes)
    middle = now()
    print(f"in process: {tried.count} in {middle - began:.0f} s {dict(tried.statuses)}", flush=True)
    variant = service("simulated", runner="simulated", sim_fixed_ms=0, sim_per_item_ms=0)
    with running(variant, args.cpus) as server:
        _over_sockets(server, over_sockets // 10, args.seed + 1_000_000)  # Warms its pools up.
        before = processes.resident_bytes([server.process.pid])
        sent = _over_sockets(server, over_sockets, args.seed)
        growth = (processes.resident_bytes([server.process.pid]) - before) / MIB
        alive = server.get("/health/live")[0] == 200
    took = now() - middle
    told = [*tried.violations, *sent.violations]
    record.text("violations.txt", "\n".join(told) + "\n")
    per_hundred = growth / over_sockets * 100
    findings = [
        Finding("bodies tried in process", tried.count),
        Finding("requests over sockets", over_sockets),
        Finding("answers of ours that are errors", len(told), need="0", ok=not told),
        Finding("the front's growth over sockets", growth, "MiB"),
        Finding("of it for 100 requests", per_hundred, "MiB", need="< 1", ok=per_hundred < 1),
        Finding("alive afterwards", int(alive), need="1", ok=alive),
        Finding("seconds in process", middle - began, "s"),
        Finding("seconds over sockets", took, "s"),
    ]
    notes = [
        f"- in process: {_tell(tried.statuses)}",
        f"- bodies over sockets: {_tell(sent.bodies)}",
        f"- whole requests over sockets: {_tell(sent.whole)}; {sent.closed} closed unanswered",
    ]
    return Measured(findings, "\n".join(notes))


def _in_process(count: int, seed: int, workers: int) -> FuzzResult:
    pieces = [(min(PIECE, count - first), seed + first) for first in range(0, count, PIECE)]
    total = FuzzResult()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for tried in pool.map(_try_piece, pieces):
            total.statuses += tried.statuses
            for what in tried.violations:
                total.violate(what)
    return total


def _try_piece(piece: tuple[int, int]) -> FuzzResult:
    count, seed = piece
    return asyncio.run(Application().try_all(mutations.bodies(count, seed)))


def _over_sockets(server: Server, count: int, seed: int) -> Sent:
    sent = Sent()
    uvloop.run(send(server.target, count, seed, sent))
    return sent


async def send(target: Target, count: int, seed: int, sent: Sent) -> None:
    """Half of them bodies in trains, half whole requests on connections of their own."""
    half = count // 2
    trains = _trains(mutations.bodies(half, seed))
    await asyncio.gather(*(_pipeline(target, trains, sent) for _ in range(CONNECTIONS)))
    whole = mutations.requests(count - half, seed)
    await asyncio.gather(*(_one_by_one(target, whole, sent) for _ in range(CONNECTIONS)))


def _trains(mutants: Iterator[mutations.Mutant]) -> Iterator[list[mutations.Mutant]]:
    while train := list(itertools.islice(mutants, PIPELINED)):
        yield train


async def _pipeline(target: Target, trains: Iterator[list[mutations.Mutant]], sent: Sent) -> None:
    """Well-formed heads around mutated bodies: each must have its answer, in one train."""
    for train in trains:
        data = b"".join(target.post(mutant.path, mutant.body) for mutant in train)
        reply = await exchange(target, [data])
        statuses = reply.statuses
        sent.bodies.update(statuses)
        if not reply.ended or len(statuses) != len(train) or max(statuses) >= 500:
            sent.violations.append(f"ended {reply.ended}, {statuses} to {data!r}")


async def _one_by_one(target: Target, requests: Iterator[bytes], sent: Sent) -> None:
    for data in requests:
        reply = await exchange(target, [data])
        sent.whole.update(reply.statuses)
        sent.closed += not reply.statuses
        # 504: a mutated timeout may be one millisecond.
        if not reply.ended or any(status >= 500 and status != 504 for status in reply.statuses):
            sent.violations.append(f"ended {reply.ended}, {reply.statuses} to {data!r}")


def _tell(statuses: Counter[int]) -> str:
    return " ".join(f"{status}:{count}" for status, count in sorted(statuses.items()))
