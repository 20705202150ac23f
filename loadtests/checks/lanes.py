"""Does a flood of bulk hold up interactive requests? Alone first, then the same arrivals beside it.

Two callers, each with a key of its own, so that neither uses up the other's share of the queue. One
driver sends both streams, each request on its schedule. First with the queue that a service has by
default, where the deadline is what bounds it, then with a short one, where its size does.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from batcher.limits import Limits
from loadtests.checks.overload import EXPIRED, REFUSED, rate
from loadtests.checks.saturation import ACCELERATOR
from loadtests.checks.yardsticks.bench import simulated
from loadtests.drivers import arrivals
from loadtests.drivers.background_load import encode
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK, Outcome, percentiles
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running

TITLE = "A flood of bulk at five times capacity beside a tenth of it of interactive requests"
INTERACTIVE, BULK = "interactive", "bulk"
HEADERS: Mapping[str, Mapping[str, str]] = {
    INTERACTIVE: {"Priority": "u=1", "Authorization": f"Bearer {INTERACTIVE}-key"},
    BULK: {"Priority": "u=6", "Authorization": f"Bearer {BULK}-key"},
}
TIMEOUT = 10.0  # Seconds, of every request.
SKIP = 2.0
WINDOW = 5.0  # Seconds; bulk is answered in each of them.
FULL = ACCELERATOR.time(ACCELERATOR.limit)
DEFAULT_QUEUE, SHORT_QUEUE = Limits().max_queue_size, 64
LATE = {DEFAULT_QUEUE: 1.0, SHORT_QUEUE: 0.1}  # Percent of bulk; a short queue has nothing to drop.
DONE = 0.85  # Of the capacity, by both lanes together.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interactive", type=number_between(0.01, 0.5), default=0.1, help="share")
    parser.add_argument("--bulk", type=number_between(1.1, 10), default=5.0, help="capacities")
    parser.add_argument(
        "--queues",
        type=count_between(8, 4096),
        nargs="+",
        default=[DEFAULT_QUEUE, SHORT_QUEUE],
        help="max_queue_size, one after another",
    )
    parser.add_argument("--seconds", type=number_between(5, 300), default=40.0, help="of each part")
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    capacity = ACCELERATOR.capacity
    urgent = arrivals.poisson(args.interactive * capacity, args.seconds, args.seed)
    flood = arrivals.poisson(args.bulk * capacity, args.seconds, args.seed + 1)
    keys = ",".join(f"{lane}-key" for lane in HEADERS)
    findings: list[Finding] = []
    for queue in args.queues:
        variant = simulated("lanes", max_queue_size=queue, api_key=keys)
        with running(variant, args.cpus) as server:
            alone, _ = _offer(server, args.seconds, {INTERACTIVE: urgent})
            print(f"queue {queue}: interactive alone: {alone.summary(SKIP)}", flush=True)
            beside, lanes = _offer(server, args.seconds, {INTERACTIVE: urgent, BULK: flood})
        high, low = (
            [out for out, lane in zip(beside.outcomes, lanes, strict=True) if lane == wanted]
            for wanted in (INTERACTIVE, BULK)
        )
        record.raw(f"queue-{queue}-alone", alone)
        for lane, outcomes in ((INTERACTIVE, high), (BULK, low)):
            run = Run(outcomes, beside.begin, beside.seconds)
            record.raw(f"queue-{queue}-beside-{lane}", run)
            print(f"queue {queue}: {lane}: {run.summary(SKIP)}", flush=True)
        findings += judged(queue, alone, beside, high, low)
    notes = (
        f"Interactive: Priority u=1, {args.interactive:g} of the capacity of {capacity:.0f}/s; "
        f"bulk: u=6, {args.bulk:g} times it; each with its own key; {TIMEOUT:g} s for each request."
        f" A queue of {DEFAULT_QUEUE} is what a service has by default. Both times the same"
        " interactive arrivals. Latencies from the scheduled moment. What both get done stays a"
        " little below the capacity: bulk may not push interactive work back by more than one"
        " whole batch, so a batch with interactive work in it may leave with room."
    )
    return Measured(findings, notes)


def judged(
    queue: int, alone: Run, beside: Run, high: Sequence[Outcome], low: Sequence[Outcome]
) -> list[Finding]:
    """`high` and `low`: the interactive and the bulk requests of `beside`."""
    part, capacity = f"queue {queue}", ACCELERATOR.capacity
    before, after = (_p95(alone.outcomes, alone), _p95(high, beside))
    since, until = beside.begin + SKIP, beside.begin + beside.seconds
    bulk = [out for out in low if out.status == OK]
    least = slowest_window(bulk, beside)
    late = sum(out.status == EXPIRED for out in low) / max(1, len(low))
    told = {OK, REFUSED, EXPIRED}
    answered = [out for out in (*high, *low) if out.status == OK]
    lag = percentiles([out.sent - out.scheduled for out in beside.outcomes], (99,))[0]
    both = rate(answered, since, until)
    bound = round((before + FULL) * 1e3, 1)
    return [
        Finding(f"{part}: interactive alone, p95", before * 1e3, "ms"),
        at_most(f"{part}: interactive beside bulk, p95", after * 1e3, bound, "ms"),
        none(f"{part}: interactive not answered 200", sum(out.status != OK for out in high)),
        Finding(
            f"{part}: answers to bulk in the worst {WINDOW:g} s", least, need="> 0", ok=least > 0
        ),
        Finding(f"{part}: answers to bulk", rate(bulk, since, until), "/s"),
        at_most(f"{part}: bulk ended in 504", 100 * late, LATE.get(queue, 1.0), "%"),
        none(f"{part}: bulk neither 200, 429 nor 504", sum(out.status not in told for out in low)),
        Finding(
            f"{part}: answers to both",
            both,
            "/s",
            ideal=capacity,
            need=f">= {DONE:g}",
            ok=both >= DONE * capacity,
        ),
        Finding(f"{part}: the driver was late (p99)", lag * 1e3, "ms"),
    ]


def slowest_window(answered: Sequence[Outcome], run: Run) -> int:
    """Answers in the window that had fewest. What is left over at the end is no window."""
    count = max(1, int(run.seconds / WINDOW))
    edges = [run.begin + min(WINDOW, run.seconds) * number for number in range(count + 1)]
    found, _ = np.histogram([out.answered for out in answered], bins=edges)
    return int(found.min())


def _p95(outcomes: Sequence[Outcome], run: Run) -> float:
    """Of all that was asked for: what was refused or lost counts as never answered."""
    latencies = [
        out.latency if out.status == OK else TIMEOUT
        for out in outcomes
        if out.scheduled >= run.begin + SKIP
    ]
    return percentiles(latencies, (95,))[0]


def _offer(
    server: Server, seconds: float, streams: Mapping[str, arrivals.Times]
) -> tuple[Run, list[str]]:
    """All streams in one order of time; the lane of each request beside its outcome."""
    due = sorted((float(time), lane) for lane, times in streams.items() for time in times)
    lanes = [lane for _, lane in due]
    requests = [
        encode(server.target, f"{len(streams)} {lane} {number}", TIMEOUT, HEADERS[lane])
        for number, lane in enumerate(lanes)
    ]
    times = np.array([time for time, _ in due])
    return referee(server.target, requests, times, seconds, grace=TIMEOUT), lanes
