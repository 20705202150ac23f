"""Clients and networks that are slow, broken or hostile."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial

from loadtests.chaos.bench import Bench
from loadtests.chaos.hostile import check_attacks, run_async, status_and_json
from loadtests.chaos.proxy import Toxics, proxy
from loadtests.chaos.scenario import Allowed, NotRunnable, Scenario
from loadtests.drivers.history import ms, only, p95, tell
from loadtests.drivers.raw_http import Reply, exchange
from loadtests.drivers.target import Target
from loadtests.drivers.timer import now
from loadtests.fuzz.attacks import head, post
from loadtests.reports.finding import Finding, observed

SLOW = 500  # connections at once
DEADLINE = 10.0  # seconds for a head, and for a body
READING = 25.0  # seconds within which an answer that nobody reads is given up
UNREAD = 1.0  # seconds that a connection stood, its answers unread, at least
HALF = 0.5  # of a pause of a slow client
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


async def _trickle(start: bytes, piece: bytes) -> AsyncIterator[bytes]:
    """Never finished; bounded all the same."""
    yield start
    for _ in range(int(2 * DEADLINE / HALF)):
        await asyncio.sleep(HALF)
        yield piece


async def _slow(bench: Bench, start: bytes, piece: bytes) -> list[Reply]:
    return await asyncio.gather(
        *(exchange(bench.target, _trickle(start, piece), seconds=2 * DEADLINE) for _ in range(SLOW))
    )


def _beside_slow_ones(bench: Bench, start: bytes, piece: bytes) -> Finding:
    """Ended at the deadline with 408, and normal callers none the wiser."""
    rate = bench.capacity * 0.3
    with bench.load(rate) as alone:
        time.sleep(3.0)
    with bench.load(rate, seed=2) as during:
        replies = run_async(bench, partial(_slow, bench, start, piece))
    counts = Counter(status_and_json(reply)[0] for reply in replies)
    longest = max(reply.took for reply in replies)
    good = all(reply.ended for reply in replies) and set(counts) == {408}
    good &= longest <= DEADLINE + 2.0 and only([*alone.calls, *during.calls], 200)
    good &= p95(during.calls) <= 1.1 * p95(alone.calls) + 0.02
    return observed(
        good,
        f"{SLOW} connections: {dict(counts)}, the last ended after {longest:.1f} s; p95"
        f" {ms(p95(alone.calls))} without, {ms(p95(during.calls))} with them",
    )


def _slow_heads(bench: Bench) -> Finding:
    return _beside_slow_ones(bench, b"POST /embed HTTP/1.1\r\nHost: here\r\n", b"X-A: b\r\n")


def _slow_bodies(bench: Bench) -> Finding:
    sending = _beside_slow_ones(bench, head("Content-Length: 1000"), b" ")
    page = b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 100

    async def pipeline_unread() -> list[float]:
        return await asyncio.gather(*(_never_reads(bench.target, page) for _ in range(8)))

    times = run_async(bench, pipeline_unread)
    bench.injections.acknowledge("unread answer", sum(took >= UNREAD for took in times))
    took = max(times)
    return observed(
        sending.ok and took <= READING,
        f"bodies a byte at a time: {sending.what}; answers that nobody reads: given up after"
        f" {took:.1f} s",
    )


async def _never_reads(target: Target, data: bytes) -> float:
    """Seconds until the service gives the connection up."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        began = now()
        await loop.sock_connect(client, (target.host, target.port))
        # Writing waits when nobody reads at the other end either, and fails after a reset.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(READING + 5):
                while True:
                    await loop.sock_sendall(client, data)
        return now() - began


def _leave(bench: Bench, texts: Iterator[str], count: int, stay: float) -> None:
    """So many clients that send, wait a moment and are gone with a reset."""
    clients = []
    for _ in range(count):
        client = bench.socket()
        client.sendall(post(json.dumps({"inputs": next(texts)}).encode()))
        clients.append(client)
    time.sleep(stay)
    for client in clients:
        _reset(bench, client)


def _reset(bench: Bench, client: socket.socket) -> None:
    """Closes it as a client does that has died."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    bench.injections.acknowledge("reset")


def _leave_the_queue(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.5) as load:
        before = bench.stats()["cancelled"]
        for _ in range(3):
            _leave(bench, bench.texts("gone"), 60, stay=0.15)

        def left() -> int:
            return int(bench.stats()["cancelled"] - before)

        bench.wait_until("clients that left to be counted", lambda: left() >= 30, 5.0)
    return observed(
        only(load.calls, 200),
        f"{left()} of 180 withdrawn before they ran; others {tell(load.calls)}",
    )


def _leave_the_device(bench: Bench) -> Finding:
    with bench.load(bench.capacity * 0.3) as load:
        for _ in range(20):
            _leave(bench, bench.texts("gone"), 2, stay=0.02)  # A batch takes 40 ms and more.
            time.sleep(0.05)
    return observed(only(load.calls, 200), f"40 clients left; others {tell(load.calls)}")


def _half_closed(bench: Bench) -> Finding:
    async def ask() -> list[int]:
        body = json.dumps({"inputs": bench.text()}).encode()
        replies = [exchange(bench.target, [post(body)]) for _ in range(50)]
        return [status_and_json(reply)[0] for reply in await asyncio.gather(*replies)]

    statuses = Counter(run_async(bench, ask))
    return observed(set(statuses) == {200}, f"50 that said they had sent all: {dict(statuses)}")


def _killed_uploads(bench: Bench) -> Finding:
    start = head("Content-Length: 1000000") + b" " * 50_000
    with bench.load(bench.capacity * 0.3) as load:
        for number in range(1000):
            with bench.socket() as client:
                client.sendall(start[: 100 + number * 40])
                _reset(bench, client)
    return observed(only(load.calls, 200), f"1,000 uploads cut off; others {tell(load.calls)}")


IN_PARALLEL = 10
NETWORK_FAULTS = dict.fromkeys(
    ("latency", "bandwidth", "slice", "limit", "reset_after"), IN_PARALLEL
)
NETWORKS = {
    "100 ms and as much jitter": (Toxics(latency=0.1, jitter=0.1), {200}),
    "10 kB/s": (Toxics(bandwidth=10_000), {200}),
    "one byte at a time": (Toxics(slice=1), {200}),
    "cut off after 30 bytes of the answer": (Toxics(limit=30), {0, 200}),
    "reset after 60 bytes of the request": (Toxics(reset_after=60), {0}),
}


def _bad_network(bench: Bench) -> Finding:
    async def through(toxics: Toxics) -> list[Reply]:
        done: Counter[str] = Counter()
        async with proxy(bench.target, toxics, done) as target:
            body = json.dumps({"inputs": bench.text()}).encode()
            sent = [exchange(target, [post(body)], seconds=20) for _ in range(IN_PARALLEL)]
            replies = await asyncio.gather(*sent)
        for name, times in done.items():
            bench.injections.acknowledge(name, times)
        return replies

    told, good = [], True
    for name, (toxics, right) in NETWORKS.items():
        replies = run_async(bench, partial(through, toxics))
        statuses = {status_and_json(reply)[0] for reply in replies}
        good &= statuses <= right and all(reply.ended for reply in replies)
        told.append(f"{name}: {sorted(statuses)} in {max(r.took for r in replies):.1f} s")
    return observed(good, "; ".join(told))


def _pipelined(bench: Bench) -> Finding:
    texts = [bench.text() for _ in range(100)]
    train = b"".join(
        post(json.dumps({"inputs": text}).encode(), f"X-Request-Id: n{number}")
        for number, text in enumerate(texts)
    )

    async def ask() -> Reply:
        return await exchange(bench.target, [train], seconds=30)

    reply = run_async(bench, ask)
    ids = [
        int(line.partition(b": n")[2])
        for line in reply.data.split(b"\r\n")
        if line.startswith(b"x-request-id: n")
    ]
    for _ in range(20):
        with bench.socket() as client:
            client.sendall(train)
            _reset(bench, client)
    return observed(
        reply.statuses == [200] * 100 and ids == list(range(100)),
        f"100 on one connection: {dict(Counter(reply.statuses))}, in order:"
        f" {ids == sorted(ids)}; then 20 more trains whose senders left at once",
    )


def _expects(bench: Bench) -> Finding:
    waits = head("Content-Length: 10", "Expect: 100-continue")
    odd = head("Content-Length: 10", "Expect: miracles")

    async def ask() -> list[Reply]:
        sent = [
            exchange(bench.target, [data], half_close=False, seconds=15) for data in (waits, odd)
        ]
        return await asyncio.gather(*sent)

    waited, refused = run_async(bench, ask)
    continued = waited.data.startswith(b"HTTP/1.1 100 ")
    return observed(
        continued and waited.statuses == [408] and refused.statuses == [417],
        f"told to go on: {continued}, and never did: {waited.statuses} after {waited.took:.1f} s;"
        f" another expectation: {refused.statuses}",
    )


def _scanned(bench: Bench) -> Finding:
    before = bench.server.log.stat().st_size
    found = check_attacks(bench, lambda one: one.name in ("TLS", "binary", "HTTP/0.9"), repeats=100)
    for _ in range(500):
        bench.socket().close()
    written = bench.server.log.stat().st_size - before
    return observed(
        found.ok and written < 20_000,
        f"{found.what}; 500 connections opened and closed; {written} bytes of log",
    )


SCENARIOS: tuple[Scenario | NotRunnable, ...] = (
    Scenario(
        "N1",
        f"{SLOW} clients that send a header every half second",
        "408 at the deadline; others no slower",
        _slow_heads,
        real=True,
        timed=True,
    ),
    Scenario(
        "N2",
        f"{SLOW} clients that send a byte of a body every half second; clients that never read",
        "408 at the deadline; closed; others no slower",
        _slow_bodies,
        recovery=20.0,
        allowed=Allowed(growth_mb=64),
        injects={"unread answer": 8},
        timed=True,
    ),
    Scenario(
        "N3",
        "clients that leave while their requests wait",
        "withdrawn before they run",
        _leave_the_queue,
        injects={"reset": 180},
    ),
    Scenario(
        "N4",
        "clients that leave while their requests run",
        "nobody else notices",
        _leave_the_device,
        real=True,
        injects={"reset": 40},
    ),
    Scenario(
        "N5",
        "clients that shut down their sending side after the request",
        "answered all the same",
        _half_closed,
        real=True,
    ),
    Scenario(
        "N6",
        "1,000 uploads reset in the middle",
        "no descriptor and no memory kept",
        _killed_uploads,
        real=True,
        injects={"reset": 1000},
    ),
    Scenario(
        "N7",
        "latency, jitter, little bandwidth, single bytes, cuts, resets (our own proxy)",
        "the right answer, or a closed connection; no hang",
        _bad_network,
        real=True,
        injects=NETWORK_FAULTS,
    ),
    Scenario(
        "N8",
        "100 pipelined requests; the same, and gone",
        "answered in order; nothing kept",
        _pipelined,
        injects={"reset": 20},
    ),
    Scenario(
        "N9",
        "Expect: 100-continue and no body; another expectation",
        "408 at the deadline; 417",
        _expects,
        real=True,
    ),
    Scenario(
        "N10",
        "TLS and binary to the plain port, 500 connections of a scan",
        "closed; the log is not flooded",
        _scanned,
        real=True,
    ),
)
