"""Does SIGTERM lose anything? The service is stopped at 70 % load; every request is followed."""

import argparse
import functools
from collections import Counter

from loadtests.checks.saturation import ACCELERATOR
from loadtests.drivers import arrivals, workloads
from loadtests.drivers.openloop import referee
from loadtests.drivers.target import count_between, number_between
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, Measured
from loadtests.reports.record import Record
from loadtests.servers.launch import STOP_SECONDS, Server, add_topology, running, service, topology

TITLE = "SIGTERM at 70 % load"
REFUSALS = {"503", "refused"}  # KnownError so, or nobody was listening any more.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=number_between(2, 60), default=8.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument("--load", type=number_between(0.05, 0.95), default=0.7)
    add_topology(parser)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    variant = service(
        "simulated",
        runner="simulated",
        sim_fixed_ms=50,
        sim_per_item_ms=5,
        max_batch_size=32,
        **topology(args),
    )
    texts = workloads.texts("short", workloads.built_in_sentences(), seed=1)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    exits, times = [], []
    for repeat in range(args.repeats):
        with running(variant, args.cpus) as server:
            requests = [server.target.post("/embed", workloads.embed_body(text)) for text in texts]
            rate = args.load * ACCELERATOR.capacity
            arriving = arrivals.poisson(rate, args.seconds, seed=repeat)
            signalled: list[float] = []

            stop = functools.partial(_stop, server, signalled)
            middle = args.seconds / 2
            run = referee(server.target, requests, arriving, args.seconds, during=[(middle, stop)])
            exits.append(server.process.wait(STOP_SECONDS))
        record.raw(f"drain-{repeat}", run)
        for outcome in run.outcomes:
            (before if outcome.sent < signalled[0] else after)[outcome.status] += 1
        last = max(out.answered for out in run.outcomes if out.status == "200")
        times.append(last - signalled[0])
        print(
            f"{repeat + 1}: exit {exits[-1]}, before {dict(before)}, after {dict(after)}",
            flush=True,
        )
    unanswered = sum(count for status, count in before.items() if status != "200")
    cut = sum(count for status, count in after.items() if status not in {"200", *REFUSALS})
    findings = [
        Finding("sent before the signal", before.total()),
        Finding("of them not answered 200", unanswered, need="0", ok=unanswered == 0),
        Finding("sent after it: neither answered nor refused", cut, need="0", ok=cut == 0),
        Finding(
            "exit status other than 0",
            sum(code != 0 for code in exits),
            need="0",
            ok=not any(exits),
        ),
        Finding("last answer after the signal", max(times) * 1e3, "ms"),
    ]
    return Measured(findings, f"After the signal: {dict(after)}.")


def _stop(server: Server, signalled: list[float]) -> None:
    signalled.append(now())
    server.terminate()
