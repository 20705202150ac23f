"""Callers that keep a connection each and say what became of every request, whoever is killed."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import uvloop

from loadtests.drivers import workloads
from loadtests.drivers.http_client import Answer, Pool
from loadtests.drivers.outcomes import OK
from loadtests.drivers.timer import now
from loadtests.servers.target import Target
from service.models.simulated import answers

PAUSE = 0.05  # Seconds that a caller stays away who was turned away.
GRACE = 10.0
LONGER = 30.0


@dataclass(slots=True)
class Asked:
    """One request of one caller. `status` is an HTTP status, or what broke the connection."""

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


def ask(
    target: Target,
    callers: int,
    seconds: float,
    during: Sequence[tuple[float, Callable[[], None]]] = (),
    enough: Callable[[Sequence[Asked]], bool] = lambda asked: True,
) -> list[Asked]:
    """All requests, by the time they were sent; each caller has one out at a time, on a connection
    that it makes anew only when it was closed. `during`: what else is done, and when. They go on
    for `seconds`, and until it is `enough` or LONGER seconds more have passed."""
    asked: list[Asked] = uvloop.run(_ask(target, callers, seconds, during, enough))
    return asked


async def _ask(
    target: Target,
    callers: int,
    seconds: float,
    during: Sequence[tuple[float, Callable[[], None]]],
    enough: Callable[[Sequence[Asked]], bool],
) -> list[Asked]:
    loop, asked, end = asyncio.get_running_loop(), list[Asked](), now() + seconds

    async def call(caller: int) -> None:
        pool = Pool(target, limit=1, keep_bodies=True, once_more=False)
        for number in itertools.count():
            if now() >= end and (now() >= end + LONGER or enough(asked)):
                break
            one = Asked(caller, f"caller {caller} request {number}", now())
            asked.append(one)
            answered: asyncio.Future[Answer] = loop.create_future()
            pool.send(target.post("/embed", workloads.embed_body(one.text)), answered.set_result)
            one.settle(await answered)
            if one.status != OK:
                await asyncio.sleep(PAUSE)
        await pool.close()

    for delay, act in during:
        loop.call_later(delay, act)
    tasks = [loop.create_task(call(caller)) for caller in range(callers)]
    _, late = await asyncio.wait(tasks, timeout=seconds + LONGER + GRACE)
    for task in late:  # What they wait for stays `lost`.
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return asked
