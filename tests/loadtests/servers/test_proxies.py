"""Claims about what stands between: the bad network of ours, and the examples of deploy/."""

import asyncio
import re
from collections import Counter

import pytest

from loadtests.chaos.proxy import Toxics, proxy
from loadtests.drivers.raw_http import Reply, exchange
from loadtests.drivers.target import Target
from loadtests.servers.launch import ROOT
from loadtests.servers.proxies import PROXIES, find

ANSWER = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100


def through(toxics: Toxics, request: bytes = b"a" * 200) -> tuple[Reply, bytes]:
    """What came back, and what the server got."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                got.extend(piece)
            writer.write(ANSWER)
            await writer.drain()
        except ConnectionError:
            got.extend(b"reset")
        finally:
            writer.close()

    async def main() -> Reply:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        async with server, proxy(target, toxics, Counter()) as bad:
            return await exchange(bad, [request], seconds=5)

    return asyncio.run(main()), bytes(got)


@pytest.mark.parametrize(
    "toxics", [Toxics(), Toxics(slice=1), Toxics(latency=0.01, jitter=0.01), Toxics(bandwidth=1e6)]
)
def test_a_slow_network_loses_nothing(toxics: Toxics):
    reply, got = through(toxics)
    assert (reply.data, got) == (ANSWER, b"a" * 200)


def test_latency_is_waited_for():
    assert through(Toxics(latency=0.05))[0].took >= 0.1  # there and back


def test_an_answer_is_cut_off_at_the_limit():
    reply, _ = through(Toxics(limit=30))
    assert (reply.data, reply.ended) == (ANSWER[:30], True)


def test_a_reset_reaches_both_ends():
    reply, got = through(Toxics(reset_after=60))
    assert (reply.data, reply.ended) == (b"", True)
    assert len(got) <= 65


@pytest.mark.parametrize("kind", PROXIES.values(), ids=PROXIES)
def test_every_example_has_the_three_ports_that_are_replaced(kind):
    text = (ROOT / "deploy" / kind.example).read_text()
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", text)) == {"8000", "8001", "8002"}


def test_a_proxy_that_is_not_there_is_named():
    with pytest.raises(RuntimeError, match="apt-get install nothing-like-it"):
        find("nothing-like-it")
