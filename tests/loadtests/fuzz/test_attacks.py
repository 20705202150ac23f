"""Claims about what is sent to hurt: that it is what it says, bounded, and rightly judged."""

import asyncio
from collections import Counter
from itertools import islice

import pytest

from loadtests.drivers.raw_http import Reply, exchange
from loadtests.drivers.target import Target
from loadtests.fuzz import attacks, mutations
from loadtests.fuzz.run_attacks import Result, once

MOST = 65 << 20  # bytes of one attack


def test_attacks_have_names_of_their_own_and_right_answers():
    names = Counter(attack.name for attack in attacks.everything())
    assert max(names.values()) == 1
    assert all(attack.answers for attack in attacks.everything())
    assert all(
        200 <= status < 500 or not status for a in attacks.everything() for status in a.answers
    )


@pytest.mark.parametrize("attack", attacks.everything(), ids=lambda attack: attack.name)
def test_no_attack_is_endless(attack: attacks.Attack):
    assert sum(map(len, islice(attack.chunks(), 100_000))) < MOST


def test_mutants_are_bounded():
    assert max(map(len, mutations.requests(2000))) <= mutations.LONGEST


def test_statuses_are_of_answers_only():
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n"
    assert Reply(data, True, 0.0).statuses == [400]


def served(answer: bytes, close: bool = True) -> Result:
    """What is thought of a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        if close:
            writer.close()
        else:
            left_open.append(writer)

    left_open: list[asyncio.StreamWriter] = []

    async def main() -> Result:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        result = Result()
        async with server:
            await once(target, attacks.named("bare LF"), result, seconds=0.2)
        for writer in left_open:
            writer.close()
        return result

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "close", "wrong"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, 0),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", True, 1),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, 1),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, 1),
        (b"", True, 1),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, 1),  # left open
    ],
)
def test_only_one_right_answer_and_an_end_are_right(answer: bytes, close: bool, wrong: int):
    assert served(answer, close).wrong == wrong


def test_an_exchange_that_is_not_read_ends_all_the_same():
    async def main() -> Reply:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server:
            return await exchange(target, [b"x" * 100_000] * 100, seconds=5)

    reply = asyncio.run(main())
    assert (reply.ended, reply.statuses) == (True, [])
