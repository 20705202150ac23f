"""What a request leaves behind: nothing. Garbage collections are rare
(service/processes/gc_tuning.py), so a ring of objects would keep its request, and the body, for a
long time."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest
import uvloop

from loadtests.drivers.raw_http import exchange
from loadtests.drivers.target import Target
from loadtests.fuzz import attacks
from loadtests.fuzz.inprocess import Application
from tests.service.loopback import POST, HeldClient, run, running, server_of, serving

GOOD = attacks.Attack("", "good", lambda: [attacks.post(b'{"inputs":"a"}')], frozenset({200}))
NAMES = [
    "absolute form",  # any GET
    "absolute form of elsewhere",  # 404
    "10,000 headers",  # refused in its head
    "timeout NaN",  # refused by a route
    "limit + 1",  # refused before its body
    "a million one-byte chunks",  # refused in its body
    "250,000 brackets deep",  # refused by a thread
    "text: 500,000 emoji",  # answered with the help of one
]


async def garbage_of(attack: attacks.Attack, count: int) -> int:
    """Objects in rings after `count` requests, each on a connection of its own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    target = Target("127.0.0.1", listener.getsockname()[1])
    listener.listen(16)
    front = Application().front
    server = server_of(front)
    async with running(front, server, listener):  # until the last connection has ended
        reply = await exchange(target, attack.chunks())
        assert set(reply.statuses) <= attack.answers
        gc.collect()
        for _ in range(count):
            await exchange(target, attack.chunks())
    return gc.collect()


@pytest.mark.parametrize("name", ["good", *NAMES])
def test_no_request_leaves_a_ring_of_objects(name: str) -> None:
    attack = GOOD if name == "good" else attacks.named(name)

    async def main() -> int:
        async with asyncio.timeout(30):
            return await garbage_of(attack, 3)

    gc.disable()
    try:
        assert uvloop.run(main()) < 10  # a ring of a request has 30 objects or more
    finally:
        gc.enable()


def test_a_client_that_leaves_while_its_request_runs_leaves_no_ring_either() -> None:
    engine = HeldClient()

    async def test() -> object:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST)
            await engine.submitted_one.wait()
            connection = weakref.ref(await site.connection())
            client.reset()
            await engine.cancelled.wait()
            there = site.server.server_state
            await site.until(lambda: not (there.connections or there.tasks))
            return connection()

    gc.disable()
    try:
        assert run(test()) is None
    finally:
        gc.enable()
