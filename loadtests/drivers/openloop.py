"""The referee: sends when the arrivals say, whatever the server does, and times from that moment.

A driver that waits for an answer before it sends again hides the queue it causes (coordinated
omission); this one never waits: for an answer, for a connection, or for a slow event loop to catch
up. Its own lateness is measured and reported, and requests still out at the end count as lost.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from loadtests.drivers import arrivals, workloads
from loadtests.drivers.http_client import Answer, Answered, Pool
from loadtests.drivers.outcomes import (
    Outcome,
    Summary,
    summarise,
    wait_or_lose,
    without_collections,
    write_raw,
)
from loadtests.drivers.target import Target, number_between, target_argument
from loadtests.drivers.timer import Timer, now

SENDS_A_TURN = 64  # So that a driver that fell behind still reads the answers.
LEAD_SECONDS = 0.1  # Between set-up and the first arrival.


@dataclass(frozen=True, slots=True)
class Run:
    """Outcomes in order of arrival; `begin` is the zero of the arrivals on the timer's clock."""

    outcomes: list[Outcome]
    begin: float
    seconds: float

    def summary(self, skip: float = 0.0) -> Summary:
        """Without the first `skip` seconds."""
        return summarise(self.outcomes, self.begin + skip, self.begin + self.seconds)


def referee(
    target: Target,
    requests: Sequence[bytes],
    times: arrivals.Times,
    seconds: float,
    *,
    grace: float = 5.0,
    during: Sequence[tuple[float, Callable[[], None]]] = (),
    keep_bodies: bool = False,
) -> Run:
    """Send `requests` in turn, one at each of `times`; ends at most `grace` after `seconds`.

    `during`: what else to do, and when (seconds from the start), such as stopping the server.
    """
    run: Run = uvloop.run(_drive(target, requests, times, seconds, grace, during, keep_bodies))
    return run


async def _drive(
    target: Target,
    requests: Sequence[bytes],
    times: arrivals.Times,
    seconds: float,
    grace: float,
    during: Sequence[tuple[float, Callable[[], None]]],
    keep_bodies: bool,
) -> Run:
    loop, finished = asyncio.get_running_loop(), asyncio.Event()
    pool = Pool(target, keep_bodies=keep_bodies)
    begin = now() + LEAD_SECONDS
    outcomes = [Outcome(begin + float(time)) for time in times]
    sent = answered = 0

    def settled(outcome: Outcome) -> Answered:
        def settle(answer: Answer) -> None:
            nonlocal answered
            outcome.settle(answer)
            answered += 1
            if answered == len(outcomes):
                finished.set()

        return settle

    def send_what_is_due() -> None:
        nonlocal sent
        for outcome in outcomes[sent : sent + SENDS_A_TURN]:
            if now() < outcome.scheduled:
                break
            outcome.sent = now()
            pool.send(requests[sent % len(requests)], settled(outcome))
            sent += 1
        if sent < len(outcomes):
            timer.set(outcomes[sent].scheduled)

    timer = Timer(loop, send_what_is_due)
    for delay, act in during:
        loop.call_later(LEAD_SECONDS + delay, act)
    with without_collections():
        try:
            timer.set(begin)
            await wait_or_lose(finished, outcomes, LEAD_SECONDS + seconds + grace)
        finally:
            timer.close()
    run = Run(outcomes, begin, seconds)
    await pool.close()
    return run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=target_argument, default="http://127.0.0.1:8000")
    parser.add_argument("--rate", type=number_between(0.1, 20_000), default=50.0, help="per second")
    parser.add_argument("--seconds", type=number_between(0.1, 600), default=10.0)
    parser.add_argument(
        "--arrivals",
        default="poisson",
        metavar="poisson|constant|bursts|FILE",
        help="FILE is a CSV with a TIMESTAMP column, replayed at --rate",
    )
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=number_between(0, 600), default=1.0, help="warm-up seconds")
    parser.add_argument("--grace", type=number_between(0, 60), default=5.0, help="seconds after it")
    parser.add_argument("--raw", type=Path, metavar="FILE.csv.gz", help="one line a request")
    workloads.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when every request was answered 200."""
    if args.arrivals == "poisson":
        times = arrivals.poisson(args.rate, args.seconds, args.seed)
    elif args.arrivals == "constant":
        times = arrivals.constant(args.rate, args.seconds)
    elif args.arrivals == "bursts":
        times = arrivals.bursts(args.rate, args.seconds, args.seed)
    else:
        trace = arrivals.read_trace(Path(args.arrivals))
        times = arrivals.replay(trace, args.rate, args.seconds, args.seed)
    texts = workloads.texts(args.texts, workloads.load_sentences(args.sentences), args.seed)
    requests = [args.target.post("/embed", workloads.embed_body(text)) for text in texts]
    print(f"{len(times)} requests over {args.seconds:g} s to {args.target.url}", flush=True)
    finished = referee(args.target, requests, times, args.seconds, grace=args.grace)
    if args.raw:
        write_raw(args.raw, finished.outcomes, finished.begin)
    summary = finished.summary(args.skip)
    print(summary)
    return 0 if summary.answered_share == 1 else 1
