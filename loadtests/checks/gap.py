"""Does the device rest while work waits? A simulated accelerator and a backlog that never ends.

By throughput: at X answers a second, full batches keep the device for X·s(B)/B of every second. By
the service's own count: how much of the time a replica had a batch, once between two looks at it.
"""

import argparse
import json
from statistics import median
from typing import NamedTuple

from loadtests.checks.yardsticks.bench import requests_to, simulated
from loadtests.drivers import closedloop
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK, mean_batch
from loadtests.drivers.target import count_between, number_between
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, Measured, spread
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, add_topology, running, topology
from loadtests.theory.queueing import Accelerator

TITLE = "A simulated device under a backlog: how long it rests between two batches"
LIMIT = 32
FIXED_SHARE = 0.5  # Of the time of a full batch.
BACKLOG = 3  # Full batches' worth of callers: one runs, one is next, one comes back.
IDLE = 0.01
SKIP = 1.0


class Look(NamedTuple):
    """At the service's own count, of all its replicas."""

    at: float
    busy: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-ms", type=number_between(1, 1000), default=20.0, help="s(B)")
    parser.add_argument("--seconds", type=number_between(3, 120), default=15.0, help="of each run")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)
    add_topology(parser)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    accelerator = device(args.batch_ms / 1e3)
    variant = simulated(
        "gap",
        sim_fixed_ms=accelerator.fixed * 1e3,
        sim_per_item_ms=accelerator.each * 1e3,
        max_batch_size=LIMIT,
        **topology(args),
    )
    resting: list[float] = []
    unoccupied: list[float] = []
    sizes: list[float] = []
    with running(variant, args.cpus) as server:
        requests = requests_to(server.target, args.seed)
        closedloop.drive(server.target, requests, BACKLOG * LIMIT, SKIP)  # The warm-up.
        for repeat in range(args.repeats):
            before = _look(server)
            run = closedloop.drive(server.target, requests, BACKLOG * LIMIT, args.seconds)
            after = _look(server)
            record.raw(f"backlog-{repeat}", run)
            resting.append(idle_share(run, accelerator))
            unoccupied.append(1 - (after.busy - before.busy) / (after.at - before.at))
            sizes.append(mean_batch([out for out in run.outcomes if out.status == OK]))
            print(
                f"{repeat + 1}/{args.repeats}: idle by throughput {100 * resting[-1]:.2f} %, by the"
                f" service's count {100 * unoccupied[-1]:.2f} %, mean batch {sizes[-1]:.1f}",
                flush=True,
            )
    return Measured(
        judged(resting, unoccupied, sizes),
        f"{BACKLOG * LIMIT} callers, batches of {LIMIT} of {args.batch_ms:g} ms. The service's "
        "count covers the start and the end of a run as well, when the callers come and go. Idle "
        f"by throughput, in the repeats: {spread([100 * share for share in resting])} %.",
    )


def device(full: float) -> Accelerator:
    """Takes `full` seconds for a full batch, half of it whatever the size."""
    return Accelerator(full * FIXED_SHARE, full * (1 - FIXED_SHARE) / LIMIT, LIMIT)


def idle_share(run: Run, accelerator: Accelerator) -> float:
    """The rest of the time: what full batches at this throughput do not take."""
    return 1 - closedloop.throughput(run, SKIP) / accelerator.capacity


def judged(resting: list[float], unoccupied: list[float], sizes: list[float]) -> list[Finding]:
    idle = median(resting)
    return [
        Finding(
            "idle between two batches, by throughput",
            100 * idle,
            "%",
            need=f"<= {100 * IDLE:g}",
            ok=idle <= IDLE,
        ),
        Finding("without a batch, by the service's own count", 100 * median(unoccupied), "%"),
        Finding("mean batch", median(sizes), ideal=LIMIT),
    ]


def _look(server: Server) -> Look:
    status, body = server.get("/stats")
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    return Look(now(), sum(replica["busy_seconds"] for replica in json.loads(body)["replicas"]))
