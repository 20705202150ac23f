"""A service on a real socket, in this process: the client is a fake, the connections are real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from batcher import Answer
from batcher.clock import Clock, MonotonicClock
from service.app import create_app, envelope_of
from service.edge.certificate import Certificate
from service.edge.connection import Connection
from service.edge.connections import Connections, ConnectionTimeouts
from service.edge.server import Server
from service.state import AppState
from tests.service.conftest import FakeClient, make_front

DEADLINE = 30.0  # seconds; whatever takes this long has failed
Result = TypeVar("Result")


def run(test: Coroutine[Any, Any, Result]) -> Result:
    async def in_time() -> Result:
        async with asyncio.timeout(DEADLINE):
            return await test

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(in_time())


@dataclass
class HeldClient(FakeClient):
    """Takes inputs and answers none before it is let go."""

    submitted_one: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit_all(self, payloads: Sequence[Any], **options: Any) -> list[Answer]:
        self.submitted_one.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().submit_all(payloads, **options)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A socket, and no more HTTP than it takes to tell one answer from the next."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Reply:
        """The next answer that is final."""
        while True:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            status = int(lines[0].split()[1])
            if status >= 200:
                break
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Reply(status, headers, body)

    async def rest(self) -> bytes:
        """All until the server closes."""
        return await self.reader.read()

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Site:
    front: AppState
    server: Server
    port: int
    clients: list[Client] = field(default_factory=list)

    @property
    def connections(self) -> Connections:
        return self.server.connections

    async def connect(self, buffer: int | None = None, tls: ssl.SSLContext | None = None) -> Client:
        """`buffer`: bytes that the kernel keeps for it while it does not read."""
        plain = socket.socket()
        if buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        except OSError:
            plain.close()
            raise
        name = None if tls is None else "localhost"
        opened = await asyncio.open_connection(sock=plain, ssl=tls, server_hostname=name)
        client = Client(*opened)
        self.clients.append(client)
        return client

    async def until(self, reached: Callable[[], bool]) -> None:
        """The event loop goes round, and nothing else is waited for."""
        while not reached():  # noqa: ASYNC110  # what it waits for is the server's own
            await asyncio.sleep(0)

    async def connection(self) -> Connection:
        """The server's side of the only one there is."""
        there = self.server.server_state.connections
        await self.until(lambda: bool(there))
        [only] = there
        assert isinstance(only, Connection)
        return only

    async def ask(self, data: bytes) -> Reply:
        """On a connection of its own."""
        client = await self.connect()
        client.send(data)
        try:
            return await client.reply()
        finally:
            client.reset()

    async def is_well(self) -> bool:
        return (await self.ask(POST)).status == 200


def server_of(
    front: AppState, max_connections: int = 100, timeouts: ConnectionTimeouts | None = None
) -> Server:
    app = create_app(front)
    return Server(
        app,
        max_connections,
        envelope_of,
        front.on_refusal,
        timeouts,
        Certificate.of(front.settings),
        front.settings.allowed_origins,
    )


@contextlib.asynccontextmanager
async def serving(
    client: FakeClient | None = None,
    *,
    max_connections: int = 100,
    timeouts: ConnectionTimeouts | None = None,
    clock: Clock | None = None,
    buffer: int | None = None,  # bytes that the kernel keeps for a client who does not read
    **settings: Any,
) -> AsyncIterator[Site]:
    front = make_front(client or FakeClient(), clock or MonotonicClock(), **settings)
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer is not None:  # connections inherit it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    server = server_of(front, max_connections, timeouts)
    server.config.timeout_graceful_shutdown = 1
    async with running(front, server, listener) as site:
        yield site


@contextlib.asynccontextmanager
async def running(front: AppState, server: Server, listener: socket.socket) -> AsyncIterator[Site]:
    """Until the end of the block: then its clients are cut off, and it ends."""
    task = asyncio.create_task(server.run_on(listener))
    site = Site(front, server, listener.getsockname()[1])
    try:
        yield site
    finally:
        for one in site.clients:
            one.reset()
        server.stop()
        await task


def post(body: bytes, *headers: bytes, path: bytes = b"/embed") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: a", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


POST = post(b'{"inputs": "a"}')
CHUNKED = b"POST /embed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
