"""Bodies sent each on a connection of its own, so that every HTTP process gets its share."""

import asyncio
from collections.abc import Sequence

import uvloop

from loadtests.drivers.http_client import Answer, Pool
from loadtests.servers.target import Target


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
