"""Part of `duplicates`: some of those who share a row leave, and the others do not notice.

The row waits behind a full batch. Some leave while it waits, first of all the one who came first,
and some while it runs; in each round there is also a row that all its callers leave.
"""

import asyncio
import json

import numpy as np

from loadtests.chaos.spared import exactly, none
from loadtests.checks.saturation import ACCELERATOR
from loadtests.drivers.background_load import encode
from loadtests.drivers.http_client import Answer, Pool
from loadtests.drivers.reference_answers import Computed
from loadtests.drivers.timer import now
from loadtests.reports.finding import Finding
from loadtests.servers.launch import Server
from loadtests.servers.metrics_page import parse
from loadtests.servers.target import Target

STAY, LEAVE_WAITING, LEAVE_RUNNING = "stay", "leave while it waits", "leave while it runs"
CALLERS = (LEAVE_WAITING, STAY, LEAVE_RUNNING, STAY, LEAVE_WAITING, STAY, LEAVE_RUNNING, STAY)
DESERTED = 3  # Callers of the row that all leave.
FULL = ACCELERATOR.time(ACCELERATOR.limit)
# The service looks for callers who have gone once they have waited 100 ms; a full batch is longer.
GONE_BY = {LEAVE_WAITING: 0.3 * FULL, LEAVE_RUNNING: FULL + 0.5 * ACCELERATOR.time(1)}
TIMEOUT = 10.0


def sharers(server: Server, rounds: int) -> list[Finding]:
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
        request = encode(target, _text(number), TIMEOUT)
        if what == STAY:
            pool.send(request, answered)
        else:
            leaving.append((GONE_BY[what], await _connect(target, request)))
    for _ in range(DESERTED):
        deserted = encode(target, f"nobody waits for this one {number}", TIMEOUT)
        leaving.append((GONE_BY[LEAVE_WAITING], await _connect(target, deserted)))
    for at, writer in sorted(leaving, key=lambda one: one[0]):
        await asyncio.sleep(max(0.0, began + at - now()))
        writer.transport.abort()
    try:
        await asyncio.wait_for(done.wait(), TIMEOUT)
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
