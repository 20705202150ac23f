"""A connection whose TLS handshake is not done. It counts as one, has as long as a head may take,
and becomes a Connection; or it ends without a response: there is no way to send one."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from service.edge.certificate import Certificate
from service.edge.connection import Connection
from service.edge.connections import Connections
from service.edge.sockets import client_of, has_unread_bytes
from service.errors import Problem


class Handshake(asyncio.Protocol):
    _task: asyncio.Task[None]
    _plain: asyncio.Transport

    def __init__(
        self, shared: Connections, certificate: Certificate, connection: Connection
    ) -> None:
        self._shared = shared
        self._certificate = certificate
        self._connection = connection
        self._hello = b""  # what arrived before TLS reads; the event loop reads at once
        self._early = b""  # what arrived behind the handshake

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what a TCP server makes
        self._plain = transport
        transport.set_write_buffer_limits(high=0)  # whatever the kernel does not take is unread
        shared = self._shared
        shared.state.connections.add(self)
        shared.awaiting_head.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run(transport))
        if len(shared.state.connections) > shared.max_connections and not shared.evict_idle():
            self._give_up(Problem(503, "too many open connections"))

    def data_received(self, data: bytes) -> None:
        if self._plain.get_protocol() is self:
            self._hello += data
        else:
            self._early += data

    async def _run(self, plain: asyncio.Transport) -> None:
        loop, secured = asyncio.get_running_loop(), None
        if self._hello:
            loop.call_soon(self._pass_on)  # once TLS is there, and before it reads by itself
        try:
            secured = await loop.start_tls(
                plain,
                self,
                self._certificate.context,
                server_side=True,
                ssl_shutdown_timeout=self._shared.lingering.seconds,
            )
        except ssl.SSLError as error:
            self._give_up(_problem_of(error))
        except OSError:
            plain.abort()  # the client has gone
        finally:
            self._shared.awaiting_head.remove(self)
            self._shared.state.connections.discard(self)
        if secured is not None and not (secured.is_closing() or plain.is_closing()):
            self._hand_over(secured, plain)

    def _pass_on(self) -> None:
        """As the event loop does with what it reads."""
        tls, hello = cast(asyncio.BufferedProtocol, self._plain.get_protocol()), self._hello
        while hello:
            buffer = memoryview(tls.get_buffer(len(hello)))
            count = min(len(buffer), len(hello))
            buffer[:count] = hello[:count]
            tls.buffer_updated(count)
            hello = hello[count:]

    def _hand_over(self, secured: asyncio.Transport, plain: asyncio.Transport) -> None:
        secured.set_protocol(self._connection)
        self._connection.plain = plain
        self._connection.connection_made(secured)
        if self._early:
            self._connection.data_received(self._early)

    def _give_up(self, problem: Problem) -> None:
        self._shared.count_refusal(problem, client_of(self._plain))
        self._plain.abort()

    # As a Connection, for its timeouts and the end of the server

    def close_if_silent(self) -> bool:
        if has_unread_bytes(self._plain):
            return False
        self._shared.awaiting_head.remove(self)
        self._plain.abort()
        return True

    def on_head_timeout(self) -> None:
        seconds = self._shared.awaiting_head.seconds
        self._give_up(Problem(408, f"the TLS handshake was not done within {seconds:g} s"))

    def shutdown(self) -> None:
        self._plain.abort()


def _problem_of(error: ssl.SSLError) -> Problem:
    if error.reason == "HTTP_REQUEST":
        return Problem(400, "plain HTTP on a port that speaks TLS", code="plain_http")
    return Problem(400, f"no TLS handshake: {error.reason}", code="tls_handshake")
