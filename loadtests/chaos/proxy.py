"""A bad network on the loopback: between a client and the service, in both directions."""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from loadtests.drivers.target import Target

READ = 4096  # bytes at a time
MOST_SECONDS = 30.0  # that any connection may last
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


@dataclass(frozen=True, slots=True)
class Toxics:
    """What the network does. Times in seconds, of each piece; rates in bytes a second."""

    latency: float = 0.0
    jitter: float = 0.0  # on top, uniform
    bandwidth: float = 0.0  # 0: no limit
    slice: int = 0  # bytes of a piece; 0: as they come
    limit: int = 0  # bytes towards the client, then closed; 0: no limit
    reset_after: int = 0  # bytes towards the service, then both ends are reset; 0: never


@asynccontextmanager
async def proxy(
    target: Target, toxics: Toxics, done: Counter[str], seed: int = 1
) -> AsyncIterator[Target]:
    """The address to connect to. Its connections end with the block. `done` counts, by the names of
    Toxics, what was done to them."""
    rng = random.Random(seed)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this as a task"
        tasks.add(task)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await _join(target, toxics, done, rng, reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            return  # Bad networks end connections; so does the end of the block.
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _join(
    target: Target,
    toxics: Toxics,
    done: Counter[str],
    rng: random.Random,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    from_service, to_service = await asyncio.open_connection(target.host, target.port)
    try:
        there = _pump(reader, to_service, toxics, done, rng, toxics.reset_after)
        back = _pump(from_service, writer, toxics, done, rng, toxics.limit)
        _, pending = await asyncio.wait(
            [asyncio.ensure_future(there), closing := asyncio.ensure_future(back)],
            return_when=asyncio.FIRST_COMPLETED if toxics.reset_after else asyncio.ALL_COMPLETED,
        )
        if toxics.reset_after:
            _reset(to_service)
            _reset(writer)
            done["reset_after"] += 1
        for task in pending:
            task.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    finally:
        to_service.transport.abort()


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    toxics: Toxics,
    done: Counter[str],
    rng: random.Random,
    limit: int,
) -> None:
    passed = 0
    with suppress(ConnectionError):
        while data := await reader.read(toxics.slice or READ):
            done["slice"] += bool(toxics.slice)
            if toxics.latency or toxics.jitter:
                done["latency"] += 1
                await asyncio.sleep(toxics.latency + rng.random() * toxics.jitter)
            if toxics.bandwidth:
                done["bandwidth"] += 1
                await asyncio.sleep(len(data) / toxics.bandwidth)
            if limit and passed + len(data) >= limit:
                writer.write(data[: limit - passed])
                await writer.drain()
                done["limit"] += bool(toxics.limit)
                break
            passed += len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    kept = writer.get_extra_info("socket")
    with suppress(OSError):
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
