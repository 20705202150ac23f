"""More than it can do, in time: what is answered in time, what is refused, and how fast?

Of every request: from when it should have been sent to the answer that its caller saw.
"""

import argparse
import asyncio
import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from loadtests.checks.saturation import ACCELERATOR
from loadtests.checks.yardsticks.bench import simulated
from loadtests.drivers import arrivals
from loadtests.drivers.background_load import encode
from loadtests.drivers.openloop import Run, referee
from loadtests.drivers.outcomes import OK, Outcome, percentiles
from loadtests.drivers.target import Target, count_between, number_between
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding, Measured, at_most, none
from loadtests.reports.record import Record
from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server, running
from service.models.simulated import answers

if TYPE_CHECKING:
    import httpx2
    import openai


ASKED = 20
TOO_SHORT = 0.020
MOST_RUN = 2
TOO_MANY_REQUESTS = 429
ASK_TIMEOUT = 5.0
PAUSE = 1.3 * ACCELERATOR.time(1)  # Then even one that has run is over, and the device idles again.


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, and its Retry-After as it was written."""

    status: int
    retry_after: str | None


def late_deadlines(server: Server) -> list[Finding]:
    before = _batches(server)
    answers = []
    for number in range(ASKED):
        answers.append(_ask(server, f"hopeless {number}"))
        time.sleep(PAUSE)
    ran = _batches(server) - before
    print(f"hopeless: {[answer.status for answer in answers]}, {ran} batches", flush=True)
    return judged_late(answers, ran)


def judged_late(answers: Sequence[Response], ran: int) -> list[Finding]:
    part = f"idle, {TOO_SHORT * 1e3:g} ms where one takes {ACCELERATOR.time(1) * 1e3:g}"
    refused = [answer for answer in answers if answer.status == TOO_MANY_REQUESTS]
    return [
        at_most(f"{part}: of {len(answers)} requests, batches run", ran, MOST_RUN),
        at_most(f"{part}: not refused with 429", len(answers) - len(refused), MOST_RUN),
        none(
            f"{part}: 429 without a whole Retry-After of 1 or more",
            sum(not is_whole(answer.retry_after) for answer in refused),
        ),
    ]


def is_whole(retry_after: str | None) -> bool:
    """RFC 9110: digits alone; and 0 would bring everybody back at once."""
    return (
        retry_after is not None
        and retry_after.isascii()
        and retry_after.isdigit()
        and int(retry_after) >= 1
    )


def _ask(server: Server, text: str) -> Response:
    target = server.target
    connection = http.client.HTTPConnection(target.host, target.port, timeout=ASK_TIMEOUT)
    headers = {
        "Content-Type": "application/json",
        "X-Request-Timeout-Ms": f"{TOO_SHORT * 1e3:g}",
    }
    try:
        connection.request("POST", "/embed", json.dumps({"inputs": text}), headers)
        answer = connection.getresponse()
        answer.read()
        return Response(answer.status, answer.getheader("Retry-After"))
    finally:
        connection.close()


def _batches(server: Server) -> int:
    stats = json.loads(server.get("/stats")[1])
    return sum(stats["batches"].values())


EARLY_SECONDS = 0.001  # Of rounding, between our clock and the client's sleep.
CLIENT_TIMEOUT = 60.0


@dataclass(slots=True)
class Attempt:
    """One HTTP request. `retry_after` is what its answer said, in seconds; 0: nothing. `header` is
    the coarser of the two ways to say it, as written."""

    sent: float
    answered: float = 0.0
    status: int = 0
    retry_after: float = 0.0
    header: str | None = None


@dataclass(slots=True)
class ClientCall:
    """One call of the client, with all its attempts. `ended` counts from the start of the burst."""

    text: str
    attempts: list[Attempt] = field(default_factory=list)
    is_right: bool = False  # It ended with this text's own vector.
    error: str = ""
    ended: float = 0.0

    @property
    def refusals(self) -> int:
        return sum(attempt.status == 429 for attempt in self.attempts)

    @property
    def was_early(self) -> bool:
        """Did it come back before it was told to?"""
        return any(
            later.sent < earlier.answered + earlier.retry_after - EARLY_SECONDS
            for earlier, later in pairwise(self.attempts)
        )


def burst(target: Target, texts: Sequence[str]) -> list[ClientCall]:
    """All calls at once, of different texts, with the client's default retries."""
    return asyncio.run(_send_burst(target, texts))


async def _send_burst(target: Target, texts: Sequence[str]) -> list[ClientCall]:
    import openai  # Slow to import, and not needed to serve: only where it is used.

    calls = {text: ClientCall(text) for text in texts}

    async def sending(request: "httpx2.Request") -> None:
        calls[_text(request)].attempts.append(Attempt(now()))

    async def answered(response: "httpx2.Response") -> None:
        attempt = calls[_text(response.request)].attempts[-1]
        attempt.answered, attempt.status = now(), response.status_code
        attempt.retry_after = _retry_after(response)
        attempt.header = response.headers.get("retry-after")

    began = now()
    async with openai.AsyncOpenAI(
        base_url=f"{target.url}/v1",
        api_key="none",
        timeout=CLIENT_TIMEOUT,
        http_client=openai.DefaultAsyncHttpxClient(
            event_hooks={"request": [sending], "response": [answered]}
        ),
    ) as client:
        await asyncio.gather(*(_embed(client, call, began) for call in calls.values()))
    return list(calls.values())


async def _embed(client: "openai.AsyncOpenAI", call: ClientCall, began: float) -> None:
    import openai

    try:
        answer = await client.embeddings.create(model="simulated", input=call.text)
    except openai.OpenAIError as error:
        call.error = type(error).__name__
    else:
        call.is_right = np.allclose(answer.data[0].embedding, answers([call.text])[0], atol=1e-6)
    call.ended = now() - began


def _text(request: "httpx2.Request") -> str:
    text: str = json.loads(request.content)["input"]
    return text


def _retry_after(response: "httpx2.Response") -> float:
    """Seconds; the finer of the two headers, as the client reads them."""
    if finer := response.headers.get("retry-after-ms"):
        return float(finer) / 1e3
    return float(response.headers.get("retry-after", 0))


TITLE = "Overload of a simulated accelerator (50 ms + 5 ms a request, max batch 32), and deadlines"
DEADLINE = 10 * ACCELERATOR.time(1)
SKIP = 3.0  # Seconds until the queue is what it will be.
GRACE = 5.0
REFUSED, EXPIRED = "429", "504"
REFUSED_WITHIN = 0.020
MOST_EXPIRED = 2.0  # Percent of all: who waits in vain had better been told at once.
WARM_FACTOR, WARM_SECONDS = 10.0, 3.0
GROWTH_MB = 8.0
QUEUE = 64  # Of the service that the official client meets; a burst brings twice as many.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--factors",
        type=number_between(1.1, 10),
        nargs="*",
        default=[1.3, 3.0, 10.0],
        help="offered, in capacities",
    )
    parser.add_argument("--seconds", type=number_between(5, 300), default=30.0, help="a factor")
    parser.add_argument("--repeats", type=count_between(1, 20), default=3, help="of the burst")
    parser.add_argument("--seed", type=count_between(0, 10**6), default=1)


def measure(args: argparse.Namespace, record: Record) -> Measured:
    findings: list[Finding] = []
    with running(simulated("overload"), args.cpus) as server:
        findings += late_deadlines(server)
        _offer(server, WARM_FACTOR, WARM_SECONDS, args.seed + 1)
        held = _resident_mb(server)
        for factor in args.factors:
            run = _offer(server, factor, args.seconds, args.seed)
            record.raw(f"factor-{factor:g}", run)
            print(f"{factor:g}x: {run.summary(SKIP)}", flush=True)
            findings += judged(f"{factor:g}x", run, DEADLINE)
        grown = _resident_mb(server) - held
    findings += [
        Finding("resident memory of the front, after a warm-up", held, "MiB"),
        at_most("growth of it over all of that", grown, GROWTH_MB, "MiB"),
    ]
    with running(simulated("burst", max_queue_size=QUEUE), args.cpus) as server:
        for repeat in range(args.repeats):
            findings += _retried_burst(server.target, repeat)
    notes = (
        f"Every request brings a deadline of {DEADLINE * 1e3:.0f} ms, ten times what a lone one "
        "takes. Goodput: answered 200 within it, counted from one batch's end to another's. The "
        f"burst: {2 * QUEUE} calls at once of the official OpenAI client, as it comes (two retries"
        f" a call), to a queue of {QUEUE}."
    )
    return Measured(findings, notes)


def _offer(server: Server, factor: float, seconds: float, seed: int) -> Run:
    times = arrivals.poisson(factor * ACCELERATOR.capacity, seconds, seed)
    requests = [
        encode(server.target, f"{factor:g} {seed} request {number}", DEADLINE)
        for number in range(len(times))
    ]
    return referee(server.target, requests, times, seconds, grace=GRACE)


def judged(part: str, run: Run, deadline: float) -> list[Finding]:
    """What a caller with that deadline had of it."""
    outcomes = [out for out in run.outcomes if out.scheduled >= run.begin + SKIP]
    answered = [out for out in outcomes if out.status == OK]
    refused = [out.latency for out in outcomes if out.status == REFUSED]
    late = sum(out.latency > deadline for out in answered) / max(1, len(answered))
    in_time = [out for out in run.outcomes if out.status == OK and out.latency <= deadline]
    useful = rate(in_time, run.begin + SKIP, run.begin + run.seconds)
    capacity = ACCELERATOR.capacity
    quickly = percentiles(refused, (99,))[0]
    expired = sum(out.status == EXPIRED for out in outcomes)
    told = {OK, REFUSED, EXPIRED}
    lag = percentiles([out.sent - out.scheduled for out in outcomes], (99,))[0]
    return [
        Finding(
            f"{part}: answered in time",
            useful,
            "/s",
            ideal=capacity,
            need=">= 0.97",
            ok=useful >= 0.97 * capacity,
        ),
        at_most(f"{part}: of the answers late", 100 * late, 0.1, "%"),
        Finding(
            f"{part}: a 429 takes (p99)",
            quickly * 1e3,
            "ms",
            need=f"< {REFUSED_WITHIN * 1e3:g}",
            ok=bool(refused) and quickly < REFUSED_WITHIN,
        ),
        Finding(f"{part}: refused with 429", 100 * len(refused) / len(outcomes), "%"),
        at_most(f"{part}: ended in 504", 100 * expired / len(outcomes), MOST_EXPIRED, "%"),
        none(f"{part}: neither 200, 429 nor 504", sum(out.status not in told for out in outcomes)),
        Finding(f"{part}: latency of the answers, p50", _p(answered, 50), "ms"),
        Finding(f"{part}: latency of the answers, p99", _p(answered, 99), "ms"),
        Finding(f"{part}: the driver was late (p99)", lag * 1e3, "ms"),
    ]


def rate(outcomes: Sequence[Outcome], since: float, until: float) -> float:
    """Of these a second: from the last answer before `since` to the last before `until`.

    They come in batches; from one batch's end to another's the count is exact. Where no batch ended
    for longer than one takes, that time counts as well.
    """
    ends = [out.answered for out in outcomes]
    first = max((end for end in ends if end <= since), default=since)
    last = max((end for end in ends if end <= until), default=since)
    if until - last > 1.5 * ACCELERATOR.time(ACCELERATOR.limit):
        last = until
    return sum(first < end <= last for end in ends) / (last - first) if last > first else 0.0


def _p(outcomes: Sequence[Outcome], which: float) -> float:
    return percentiles([out.latency for out in outcomes], (which,))[0] * 1e3


def _resident_mb(server: Server) -> float:
    return processes.resident_bytes([server.process.pid]) / 2**20


def _retried_burst(target: Target, repeat: int) -> list[Finding]:
    calls = burst(target, [f"burst {repeat} call {n}" for n in range(2 * QUEUE)])
    part = f"burst {repeat + 1}"
    told = [attempt for call in calls for attempt in call.attempts if attempt.status == 429]
    print(f"{part}: {len(told)} refusals, {sum(call.is_right for call in calls)} right", flush=True)
    return [
        Finding(
            f"{part}: calls of the official client",
            len(calls),
            need="some are refused at first",
            ok=bool(told),
        ),
        none(f"{part}: of them without their answer", sum(not call.is_right for call in calls)),
        none(f"{part}: came back before they were told to", sum(call.was_early for call in calls)),
        Finding(f"{part}: refusals", len(told)),
        none(
            f"{part}: refusals without a whole Retry-After of 1 or more",
            sum(not is_whole(attempt.header) for attempt in told),
        ),
        Finding(f"{part}: most refusals of one call", max(call.refusals for call in calls)),
        Finding(f"{part}: told to come back in, at most", max_ms(told), "ms"),
        Finding(f"{part}: until the last had its answer", max(c.ended for c in calls), "s"),
    ]


def max_ms(attempts: Sequence[Attempt]) -> float:
    return max((attempt.retry_after for attempt in attempts), default=0.0) * 1e3
