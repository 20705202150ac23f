"""Bytes to a server and whatever comes back, on a connection of their own. Nothing is parsed."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from loadtests.drivers.target import Target

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_MOST = 4 << 20  # bytes read of any one answer


@dataclass(frozen=True, slots=True)
class Reply:
    """`ended`: the server closed within the time. `took` in seconds."""

    data: bytes
    ended: bool
    took: float

    @property
    def statuses(self) -> list[int]:
        """Of the answers in it, 100 Continue left out."""
        return [int(status) for status in _STATUS.findall(self.data) if status != b"100"]

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        """Status and body of each whole answer that says how long it is, 100 Continue left out."""
        found, start = [], 0
        while match := _STATUS.match(self.data, start):
            end = self.data.find(b"\r\n\r\n", start) + 4
            length = _LENGTH.search(self.data, start, end)
            start = end + int(length[1] if length else 0)
            if end < 4 or start > len(self.data):
                break
            if match[1] != b"100":
                found.append((int(match[1]), self.data[end:start]))
        return found


async def exchange(
    target: Target,
    chunks: Iterable[bytes] | AsyncIterator[bytes],
    *,
    seconds: float = 15.0,
    half_close: bool = True,
) -> Reply:
    """Sends all of `chunks`, or as many as the server takes, and reads until it closes.

    `half_close`: says after the last byte that no more will come, which TLS cannot. Never raises
    for what a server does. Raises OSError when nobody listens.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await _connect(target)
    can_half_close = half_close and writer.can_write_eof()
    writing = asyncio.ensure_future(_write(writer, chunks, can_half_close))
    received = bytearray()
    ended = False
    try:
        async with asyncio.timeout(seconds):
            while len(received) < _MOST and (piece := await reader.read(1 << 16)):
                received += piece
            ended = True
    except (ConnectionError, ssl.SSLError):
        ended = True
    except TimeoutError:
        ended = False
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.transport.abort()
    return Reply(bytes(received), ended, loop.time() - began)


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.unix:
        return await asyncio.open_unix_connection(target.unix)
    return await asyncio.open_connection(target.host, target.port, ssl=target.tls)


async def _write(
    writer: asyncio.StreamWriter,
    chunks: Iterable[bytes] | AsyncIterator[bytes],
    half_close: bool,
) -> None:
    """Stops, with the exception, when the server has closed: it is the reader that judges."""
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
    else:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
    if half_close:
        writer.write_eof()
