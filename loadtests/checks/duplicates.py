"""Do equal inputs in flight cost one row? The device's time with sharing and without, and answers.

A repeat is exact, and comes so soon after a request with its text that this one cannot have been
answered. At light load sharing makes batches smaller and answers quicker, and the device's time is
that of its launches; where the device is busy it saves rows, and that is what is judged.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence

import numpy as np

from loadtests.checks.saturation import ACCELERATOR
from loadtests.checks.yardsticks.bench import simulated
from loadtests.drivers import arrivals
from loadtests.drivers.background_load import encode
from loadtests.drivers.http_client import Answer, Pool
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK, Outcome, percentiles
from loadtests.drivers.reference_answers import Computed
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, Measured, exactly, none
from loadtests.reports.record import Record
from loadtests.servers.launch import Server, running
from loadtests.servers.metrics_page import Counters, parse
from loadtests.theory.queueing import exact

STAY, LEAVE_WAITING, LEAVE_RUNNING = "stay", "leave while it waits", "leave while it runs"
CALLERS = (LEAVE_WAITING, STAY, LEAVE_RUNNING, STAY, LEAVE_WAITING, STAY, LEAVE_RUNNING, STAY)
DESERTED = 3  # Callers of the row that all leave.
FULL = ACCELERATOR.time(ACCELERATOR.limit)
# The service looks for callers who have gone once they have waited 100 ms; a full batch is longer.
GONE_BY = {LEAVE_WAITING: 0.3 * FULL, LEAVE_RUNNING: FULL + 0.5 * ACCELERATOR.time(1)}
LEAVER_TIMEOUT = 10.0


def coalesced_callers(server: Server, rounds: int) -> list[Finding]:
    before = parse(server.get("/metrics")[1].decode())
    right = wrong = 0
    for number in range(rounds):
        answers = asyncio.run(_round(server.target, number))
        good = sum(
            answer.status == 200 and is_own(answer.body, _text(number)) for answer in answers
        )
        right, wrong = right + good, wrong + len(answers) - good
    after = parse(server.get("/metrics")[1].decode())
    counted = "batcher_inputs_total"
    cancelled = after.get(counted, outcome="cancelled") - before.get(counted, outcome="cancelled")
    rows = after.get("batcher_batch_size_sum") - before.get("batcher_batch_size_sum")
    left = len(CALLERS) - CALLERS.count(STAY) + DESERTED
    print(f"{rounds} rounds of leavers: {right} right, {cancelled:.0f} cancelled", flush=True)
    return [
        Finding("leavers: who stayed", right + wrong),
        none("leavers: of them without the right answer", wrong),
        exactly("leavers: counted as cancelled", cancelled, rounds * left),
        exactly("leavers: rows run", rows, rounds * (ACCELERATOR.limit + 1)),
    ]


def _text(number: int) -> str:
    return f"the shared text of round {number}"


async def _round(target: Target, number: int) -> list[Answer]:
    """The answers of those who stayed; an error in place of one that did not come."""
    pool, done = Pool(target, keep_bodies=True, once_more=False), asyncio.Event()
    answers: list[Answer] = []
    waiting = CALLERS.count(STAY)

    def answered(answer: Answer) -> None:
        answers.append(answer)
        if len(answers) == waiting:
            done.set()

    began = now()
    ahead = await _connect(target, _full_batch(target, number))
    await asyncio.sleep(0.1 * FULL)  # It runs by now; whoever comes next waits behind it.
    leaving = []
    for what in CALLERS:
        request = encode(target, _text(number), LEAVER_TIMEOUT)
        if what == STAY:
            pool.send(request, answered)
        else:
            leaving.append((GONE_BY[what], await _connect(target, request)))
    for _ in range(DESERTED):
        deserted = encode(target, f"nobody waits for this one {number}", LEAVER_TIMEOUT)
        leaving.append((GONE_BY[LEAVE_WAITING], await _connect(target, deserted)))
    for at, writer in sorted(leaving, key=lambda one: one[0]):
        await asyncio.sleep(max(0.0, began + at - now()))
        writer.transport.abort()
    try:
        await asyncio.wait_for(done.wait(), LEAVER_TIMEOUT)
    except TimeoutError:
        answers += [Answer(error="lost")] * (waiting - len(answers))
    kept = list(answers)
    ahead.transport.abort()  # It was answered before them.
    await pool.close()
    return kept


async def _connect(target: Target, request: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(request)
    await writer.drain()
    return writer


def _full_batch(target: Target, number: int) -> bytes:
    texts = [f"ahead {number} {each}" for each in range(ACCELERATOR.limit)]
    return target.post("/embed", json.dumps({"inputs": texts}).encode())


def is_own(body: bytes, text: str) -> bool:
    """Is it the answer of `/embed` to this text?"""
    try:
        vector = np.asarray(json.loads(body), dtype=np.float64)[0]
    except (ValueError, TypeError, IndexError):
        return False
    expected = Computed().answer(text)
    return vector.shape == expected.shape and bool(np.allclose(vector, expected, atol=1e-6))


TITLE = "Equal inputs in flight: the device's time with BATCHER_SHARE_EQUAL and without"
WITHIN = 0.9 * ACCELERATOR.time(1)  # Seconds: no answer can be quicker than s(1).
LESS = 0.25
TIMEOUT = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeated", type=number_between(0.05, 0.9), default=0.37, help="share")
    parser.add_argument(
        "--rho",
        type=number_between(0.1, 1.55),
        nargs="*",
        default=[0.9, 1.5],
        help="offered, in capacities; the highest is judged",
    )
    parser.add_argument("--seconds", type=number_between(5, 60), default=30.0, help="of each run")
    parser.add_argument("--rounds", type=count_between(1, 100), default=10, help="of leavers")
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings = []
    cost: dict[tuple[float, bool], float] = {}
    for share in (False, True):
        name = "shared" if share else "apart"
        variant = simulated(name, share_equal=str(share).lower())
        with running(variant, args.cpus) as server:
            for rho in args.rho:
                times = arrivals.poisson(rho * ACCELERATOR.capacity, args.seconds, args.seed)
                numbers = repeats(times, args.repeated, WITHIN, args.seed)
                texts = [f"{name} {rho:g} text {number}" for number in numbers]
                before = _scrape(server)
                run = _drive(server, texts, times, args.seconds)
                after = _scrape(server)
                record.raw(f"{name}-{rho:g}", run)
                part = f"rho {rho:g}, {name}"
                print(f"{part}: {run.summary()}", flush=True)
                cost[rho, share], found = judged(part, run, texts, before, after)
                findings += found
            if share:
                stats = json.loads(server.get("/stats")[1])
                findings.append(Finding("requests that shared a row", stats.get("shared", 0)))
                findings += coalesced_callers(server, args.rounds)
    for rho in args.rho:
        findings.append(_saved(rho, args.repeated, cost, is_judged=rho == max(args.rho)))
    notes = (
        f"{args.repeated:.0%} of the requests repeat a text that was sent less than "
        f"{WITHIN * 1e3:.0f} ms before, which no answer can be quicker than. The device's time is "
        "the sum of `batcher_inference_seconds`, over the requests answered. `ideal` is the exact "
        "queueing model with the rows that are left. Below capacity, fewer rows make smaller "
        "batches: callers gain, not the device."
    )
    return Measured(findings, notes)


def repeats(
    times: Sequence[float] | arrivals.Times, share: float, within: float, seed: int
) -> list[int]:
    """The number of each request's text: with probability `share` that of one of those that came
    less than `within` seconds before, else a new one."""
    rng = np.random.default_rng(seed)
    numbers: list[int] = []
    fresh = first = 0
    for place, time in enumerate(times):
        while times[first] <= time - within:
            first += 1
        if first < place and rng.random() < share:
            numbers.append(numbers[int(rng.integers(first, place))])
        else:
            numbers.append(fresh)
            fresh += 1
    return numbers


def judged(
    part: str, run: Run, texts: Sequence[str], before: Counters, after: Counters
) -> tuple[float, list[Finding]]:
    """The device's seconds for each request answered, and what else there is to say."""
    answered = [out for out in run.outcomes if out.status == OK]
    seconds, rows = (
        after.get(name) - before.get(name)
        for name in ("batcher_inference_seconds_sum", "batcher_batch_size_sum")
    )
    each = seconds / max(1, len(answered))
    latency = percentiles([out.latency for out in answered], (95,))[0]
    wrong = sum(
        out.status == OK and not is_own(out.body, text)
        for out, text in zip(run.outcomes, texts, strict=True)
    )
    return each, [
        Finding(f"{part}: repeats in flight", 100 * in_flight(run.outcomes, texts), "%"),
        Finding(f"{part}: the device's time for each answer", each * 1e3, "ms"),
        Finding(f"{part}: rows for each answer", rows / max(1, len(answered))),
        Finding(f"{part}: p95", latency * 1e3, "ms"),
        none(f"{part}: not answered 200", len(run.outcomes) - len(answered)),
        none(f"{part}: 200 with another's vector", wrong),
    ]


def in_flight(outcomes: Sequence[Outcome], texts: Sequence[str]) -> float:
    """The share of requests that were sent while one with their text was out."""
    out_until: dict[str, float] = {}
    count = 0
    for outcome, text in zip(outcomes, texts, strict=True):
        count += out_until.get(text, 0.0) > outcome.sent
        out_until[text] = max(out_until.get(text, 0.0), outcome.answered)
    return count / len(texts)


def expected_saving(rho: float, share: float) -> float:
    """Of the device's time, by the exact model: a row is s(b)/b where b is the mean batch."""
    alone, left = _row(rho), _row(rho * (1 - share)) * (1 - share)
    return 1 - left / alone


def _row(rho: float) -> float:
    if rho >= 0.99:
        return ACCELERATOR.time(ACCELERATOR.limit) / ACCELERATOR.limit
    batch = exact(rho * ACCELERATOR.capacity, ACCELERATOR).batch
    return ACCELERATOR.fixed / batch + ACCELERATOR.each


def _saved(
    rho: float, share: float, cost: dict[tuple[float, bool], float], is_judged: bool
) -> Finding:
    saved = 1 - cost[rho, True] / cost[rho, False]
    return Finding(
        f"rho {rho:g}: of the device's time saved",
        100 * saved,
        "%",
        ideal=100 * expected_saving(rho, share) if is_judged else None,
        need=f">= {LESS:.0%}" if is_judged else "",
        ok=saved >= LESS if is_judged else None,
    )


def _drive(server: Server, texts: Sequence[str], times: arrivals.Times, seconds: float) -> Run:
    requests = [encode(server.target, text, TIMEOUT) for text in texts]
    return referee(server.target, requests, times, seconds, grace=seconds, keep_bodies=True)


def _scrape(server: Server) -> Counters:
    return parse(server.get("/metrics")[1].decode())
