"""N callers, each sending its next request when its last is answered: what throughput looks like.

Latencies from here flatter an overloaded server (it slows its own callers); see `openloop`.
`record_calls` says of every request what became of it, though servers be killed; `post_all` sends
each body on a connection of its own, so that every HTTP process gets its share.
"""

import argparse
import asyncio
import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import uvloop

from loadtests.drivers import workloads
from loadtests.drivers.http_client import Answer, Answered, Pool
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import OK, Outcome, wait_or_lose, without_collections
from loadtests.drivers.target import Target, count_between, number_between, target_argument
from loadtests.drivers.timer import now
from service.models.simulated import answers

GRACE_SECONDS = 30.0
FAILURES_ALLOWED = 100  # A server that refuses at once would otherwise be asked for ever faster.


def drive(
    target: Target,
    requests: Sequence[bytes],
    callers: int,
    seconds: float,
    *,
    most: int = 1_000_000,
    keep_bodies: bool = False,
) -> Run:
    """Callers take `requests` in turn, going round, until `seconds` or `most` requests are over.

    Outcomes are in order of sending. Raises RuntimeError after too many failures.
    """
    run: Run = uvloop.run(_drive(target, requests, callers, seconds, most, keep_bodies))
    return run


async def _drive(
    target: Target,
    requests: Sequence[bytes],
    callers: int,
    seconds: float,
    most: int,
    keep_bodies: bool,
) -> Run:
    pool, finished = Pool(target, callers, keep_bodies), asyncio.Event()
    outcomes: list[Outcome] = []
    endless = itertools.cycle(requests)
    begin = now()
    waiting, failures = callers, 0

    def settled(outcome: Outcome) -> Answered:
        def settle(answer: Answer) -> None:
            nonlocal failures
            outcome.settle(answer)
            failures += outcome.status != OK
            send_next()

        return settle

    def send_next() -> None:
        nonlocal waiting
        time = now()
        if time - begin >= seconds or len(outcomes) >= most or failures > FAILURES_ALLOWED:
            waiting -= 1
            if waiting == 0:
                finished.set()
            return
        outcome = Outcome(time)
        outcome.sent = time
        outcomes.append(outcome)
        pool.send(next(endless), settled(outcome))

    with without_collections():
        for _ in range(callers):
            send_next()
        await wait_or_lose(finished, outcomes, seconds + GRACE_SECONDS)
    ended = min(now(), begin + seconds)
    await pool.close()
    if failures > FAILURES_ALLOWED:
        worst = next(outcome.status for outcome in outcomes if outcome.status != OK)
        raise RuntimeError(f"{failures} of {len(outcomes)} requests failed, first: {worst}")
    return Run(outcomes, begin, ended - begin)


def throughput(run: Run, skip: float = 1.0) -> float:
    """Answers a second, from the last answer before `skip` to the last before the end.

    Answers come in batches; counting from one batch's end to another's is exact where a fixed
    window would be off by up to a batch.
    """
    answers = sorted(out.answered for out in run.outcomes if out.status == OK)
    first = max(0, bisect.bisect_right(answers, run.begin + skip) - 1)
    last = bisect.bisect_right(answers, run.begin + run.seconds) - 1
    return (last - first) / (answers[last] - answers[first]) if last > first else 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=target_argument, default="http://127.0.0.1:8000")
    parser.add_argument("--callers", type=count_between(1, 4096), default=64)
    parser.add_argument("--seconds", type=number_between(0.1, 600), default=10.0)
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=number_between(0, 600), default=1.0, help="warm-up seconds")
    workloads.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when every request was answered 200."""
    texts = workloads.texts(args.texts, workloads.load_sentences(args.sentences), args.seed)
    requests = [args.target.post("/embed", workloads.embed_body(text)) for text in texts]
    print(f"{args.callers} callers for {args.seconds:g} s to {args.target.url}", flush=True)
    finished = drive(args.target, requests, args.callers, args.seconds)
    summary = finished.summary(args.skip)
    print(f"throughput {throughput(finished, args.skip):.1f}/s  {summary}")
    return 0 if summary.answered_share == 1 else 1


REFUSED_PAUSE = 0.05  # Seconds that a caller stays away who was turned away.
LAST_ANSWERS = 10.0
EXTRA_SECONDS = 30.0


@dataclass(slots=True)
class CallRecord:
    """One request of record caller. `status` is an HTTP status, or what broke the connection."""

    caller: int
    text: str
    sent: float
    answered: float = 0.0
    status: str = "lost"
    front: str = ""  # Which HTTP process answered: its part of the request id.
    retry_after: bool = False
    is_right: bool = False  # The text's own vector, of the simulated runner.

    def settle(self, answer: Answer) -> None:
        headers = dict(answer.headers)
        self.answered, self.status = now(), answer.error or str(answer.status)
        self.front = headers.get(b"x-request-id", b"").decode("latin-1").partition("-")[0]
        self.retry_after = b"retry-after" in headers
        if self.status == OK:
            self.is_right = bool(
                np.array_equal(
                    np.array(orjson.loads(answer.body), np.float32)[0], answers([self.text])[0]
                )
            )


def record_calls(
    target: Target,
    callers: int,
    seconds: float,
    during: Sequence[tuple[float, Callable[[], None]]] = (),
    enough: Callable[[Sequence[CallRecord]], bool] = lambda records: True,
) -> list[CallRecord]:
    """All requests, by the time they were sent; each caller has one out at a time, on a connection
    that it makes anew only when it was closed. `during`: what else is done, and when. They go on
    for `seconds`, and until it is `enough` or EXTRA_SECONDS more have passed."""
    records: list[CallRecord] = uvloop.run(_record_calls(target, callers, seconds, during, enough))
    return records


async def _record_calls(
    target: Target,
    callers: int,
    seconds: float,
    during: Sequence[tuple[float, Callable[[], None]]],
    enough: Callable[[Sequence[CallRecord]], bool],
) -> list[CallRecord]:
    loop, records, end = asyncio.get_running_loop(), list[CallRecord](), now() + seconds

    async def call(caller: int) -> None:
        pool = Pool(target, limit=1, keep_bodies=True, once_more=False)
        for number in itertools.count():
            if now() >= end and (now() >= end + EXTRA_SECONDS or enough(records)):
                break
            record = CallRecord(caller, f"caller {caller} request {number}", now())
            records.append(record)
            answered: asyncio.Future[Answer] = loop.create_future()
            pool.send(target.post("/embed", workloads.embed_body(record.text)), answered.set_result)
            record.settle(await answered)
            if record.status != OK:
                await asyncio.sleep(REFUSED_PAUSE)
        await pool.close()

    for delay, act in during:
        loop.call_later(delay, act)
    tasks = [loop.create_task(call(caller)) for caller in range(callers)]
    _, late = await asyncio.wait(tasks, timeout=seconds + EXTRA_SECONDS + LAST_ANSWERS)
    for task in late:  # What they wait for stays `lost`.
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return records


def post_all(target: Target, path: str, bodies: Sequence[bytes]) -> list[Answer]:
    """The answers in order; one with `error` where there was none."""
    answers: list[Answer] = uvloop.run(_post_all(target, path, bodies))
    return answers


async def _post_all(target: Target, path: str, bodies: Sequence[bytes]) -> list[Answer]:
    loop, answers = asyncio.get_running_loop(), list[Answer]()
    for body in bodies:
        pool = Pool(target, limit=1, keep_bodies=True, once_more=False)
        answered: asyncio.Future[Answer] = loop.create_future()
        pool.send(target.post(path, body), answered.set_result)
        answers.append(await answered)
        await pool.close()
    return answers
