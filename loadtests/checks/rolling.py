"""Does a rolling restart show? Two instances behind nginx, then behind HAProxy, replaced in turn.

Constant load goes through the proxy meanwhile. The proxies run as deploy/ has them. HAProxy asks
each instance whether it is ready, and tries another one only where none of a request was sent. The
open-source nginx cannot ask: it tries the other one on a failed connection and on a 503.
"""

import argparse
import contextlib
import itertools
import time

from loadtests.drivers.background_load import Load, Plan
from loadtests.drivers.history import History, p99, tell
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import free_port, running, service
from loadtests.servers.proxies import PROXIES, find, proxied

TITLE = "Rolling restarts behind nginx and HAProxy"
CALM_SECONDS = 1.5  # After each: both proxies have seen the new instance.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--restarts", type=count_between(1, 100), default=10, help="a proxy")
    parser.add_argument("--rate", type=number_between(1, 5000), default=100.0, help="per second")
    parser.add_argument("--proxy", choices=sorted(PROXIES), help="only this one")


def measure(args: argparse.Namespace, record: Record) -> Measured:
    names = [args.proxy] if args.proxy else list(PROXIES)
    for name in names:
        find(name)  # Says what is missing before anything starts.
    findings, notes = [], []
    for name in names:
        history, exits = _roll(name, args)
        bad = [call for call in history if call.status != 200]
        lines = [f"{call.sent:.3f} {call.outcome} {call.body[:200]!r}" for call in bad]
        record.text(f"{name}-errors.txt", "\n".join(lines) + "\n")
        notes.append(f"- {name}: {tell(history)}; p99 {p99(history) * 1e3:.1f} ms")
        findings += [
            Finding(f"{name}: restarts", len(exits)),
            Finding(f"{name}: requests", len(history)),
            Finding(f"{name}: of them not answered 200", len(bad), need="0", ok=not bad),
            Finding(
                f"{name}: instances that did not end with 0",
                sum(map(bool, exits)),
                need="0",
                ok=not any(exits),
            ),
        ]
    return Measured(findings, "\n".join(notes))


def _roll(name: str, args: argparse.Namespace) -> tuple[History, list[int]]:
    variant = service("simulated", runner="simulated")
    ports = [free_port(), free_port()]
    history, exits = History(), []
    with contextlib.ExitStack() as everything:
        stacks = [everything.enter_context(contextlib.ExitStack()) for _ in ports]
        servers = [
            stack.enter_context(running(variant, args.cpus, port))
            for stack, port in zip(stacks, ports, strict=True)
        ]
        front = everything.enter_context(proxied(name, free_port(), ports))
        texts = (f"request {number}" for number in itertools.count())
        with Load(front, history, Plan(args.rate, texts)):
            time.sleep(CALM_SECONDS)
            for number in range(args.restarts):
                which = number % len(ports)
                exits.append(servers[which].stop())
                stacks[which].close()
                servers[which] = stacks[which].enter_context(
                    running(variant, args.cpus, ports[which])
                )
                time.sleep(CALM_SECONDS)
                print(f"{name}: {number + 1} replaced, {tell(history)}", flush=True)
    return history, exits
