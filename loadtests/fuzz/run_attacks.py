"""Each attack of attacks.py a hundred times: answered 4xx or closed, no memory kept, still alive.

A first round of the same attack is not counted: memory that a process takes once and uses again is
no leak.
"""

import argparse
import asyncio
from collections import Counter
from dataclasses import dataclass, field

import uvloop

from loadtests.drivers.raw_http import exchange
from loadtests.drivers.target import Target, count_between
from loadtests.drivers.timer import now
from loadtests.fuzz.attacks import CLOSED, Attack, everything
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, running, service

TITLE = "Attacks on the front"
PARALLEL = 8
ROUNDS = 5  # of memory; the smallest growth counts: a leak is in every round
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=count_between(10, 10_000), default=100, help="a round")
    parser.add_argument(
        "--family", help="bodies, lengths, bombs, smuggling, heads or dialects; default: all"
    )


@dataclass
class Result:
    answers: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    slowest: float = 0.0  # seconds


def measure(args: argparse.Namespace, record: Record) -> Measured:
    chosen = [attack for attack in everything() if args.family in (None, attack.family)]
    if not chosen:
        raise ValueError(f"{args.family}: there is no such family")
    variant = service("simulated", runner="simulated", sim_fixed_ms=0, sim_per_item_ms=0)
    lines = ["| family | attack | answers | slowest s | MiB a hundred | alive | |"]
    lines += ["|---|---|---|---|---|---|---|"]
    wrong = grown = dead = 0
    most = 0.0
    with running(variant, args.cpus) as server:
        for attack in chosen:
            result, growth = _watched(server, attack, args.repeats)
            alive = server.get("/health/live")[0] == 200
            good = not result.wrong and growth < 1 and alive
            wrong += result.wrong
            grown += growth >= 1
            dead += not alive
            most = max(most, growth)
            told = " ".join(f"{name}:{count}" for name, count in sorted(result.answers.items()))
            verdict = "" if good else "**missed**"
            lines.append(
                f"| {attack.family} | {attack.name} | {told} | {result.slowest:.2f} "
                f"| {growth:.2f} | {'yes' if alive else '**no**'} | {verdict} |"
            )
            print(lines[-1], flush=True)
        log = server.log.read_text(errors="replace")
    record.text("server.log", log[-100_000:])
    traces = log.count("Traceback")
    findings = [
        Finding("kinds of attack", len(chosen)),
        Finding("attacks of each kind", args.repeats),
        Finding("answers that are not the right ones", wrong, need="0", ok=not wrong),
        Finding("kinds that grow the front", grown, need="0", ok=not grown),
        Finding("the most that 100 of a kind grow it", most, "MiB", need="< 1", ok=most < 1),
        Finding("kinds after which it did not answer", dead, need="0", ok=not dead),
        Finding("tracebacks in its log", traces, need="0", ok=not traces),
    ]
    return Measured(findings, "\n".join(lines))


def _watched(server: Server, attack: Attack, repeats: int) -> tuple[Result, float]:
    """What came of all of it, and MiB that a hundred more of it cost."""
    result, growths = Result(), []
    uvloop.run(_repeat(server.target, attack, repeats, result))  # A first round: not counted.
    for _ in range(ROUNDS):
        before = processes.resident_bytes([server.process.pid])
        uvloop.run(_repeat(server.target, attack, repeats, result))
        after = processes.resident_bytes([server.process.pid])
        growths.append((after - before) / MIB * 100 / repeats)
        if growths[-1] < 1:
            break
    return result, min(growths)


async def _repeat(target: Target, attack: Attack, repeats: int, result: Result) -> None:
    left = iter(range(repeats))

    async def one_after_another() -> None:
        for _ in left:
            await once(target, attack, result)

    await asyncio.gather(*(one_after_another() for _ in range(PARALLEL)))


async def once(target: Target, attack: Attack, result: Result, seconds: float = 15.0) -> None:
    began = now()
    reply = await exchange(target, attack.chunks(), seconds=seconds)
    result.slowest = max(result.slowest, now() - began)
    statuses = reply.statuses
    told = ",".join(map(str, statuses)) or "closed"
    result.answers[told if reply.ended else f"{told} and left open"] += 1
    first = statuses[0] if statuses else CLOSED
    result.wrong += not reply.ended or first not in attack.answers or len(statuses) > attack.most
