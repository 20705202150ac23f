"""A service that is told to end: what its clients see, from the signal to the exit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time

import httpx2
import pytest

from tests.service.loopback import POST, HeldClient, post, run, serving
from tests.service.processes.test_server import DEADLINE, Server, simulated

LONG = "600000"  # milliseconds: a delay that no test waits for


def raw(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def answer(connection: socket.socket) -> bytes:
    """One: head and body leave in one piece."""
    return connection.recv(65536)


def test_sigterm_serves_on_not_ready_and_sends_every_client_elsewhere() -> None:
    with simulated("--drain-delay-ms", LONG) as server, raw(server) as pooled:
        pooled.sendall(POST)
        assert b"connection: close" not in answer(pooled)
        server.process.send_signal(signal.SIGTERM)
        server.heard("new requests are refused in 600 s")
        ready = server.http.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["reason"] == "the service is shutting down"
        pooled.sendall(POST)  # idle ones are still there
        reply = answer(pooled)
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in reply
        assert answer(pooled) == b""
        new = server.http.post("/embed", json={"inputs": "a"})  # and new ones come in
        assert (new.status_code, new.headers["connection"]) == (200, "close")
        while server.process.poll() is None:  # one that follows at once would be the same one
            server.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(httpx2.HTTPError):
                server.http.get("/health/live")
        assert server.close() == 128 + signal.SIGTERM


def test_what_was_asked_before_the_signal_is_answered_with_a_close_after_it() -> None:
    engine = HeldClient()

    async def test() -> None:
        async with serving(engine) as site:
            client = await site.connect()
            client.send(POST)
            await engine.submitted_one.wait()
            site.front.stopping = True
            engine.go.set()
            assert (await client.reply()).headers["connection"] == "close"

    run(test())


def test_a_body_that_is_on_its_way_is_refused_once_it_drains() -> None:
    with simulated() as server, raw(server) as late, raw(server) as busy, raw(server) as idle:
        idle.sendall(POST)
        assert answer(idle)
        late.sendall(POST[:-1])
        busy.sendall(post(json.dumps({"inputs": "fault:hang"}).encode()))
        server.until(lambda: server.stats()["running"] == 1)
        server.http.close()
        server.process.send_signal(signal.SIGTERM)
        assert answer(idle) == b""  # closed: now it drains
        late.sendall(POST[-1:])
        reply = answer(late)
        assert reply.startswith(b"HTTP/1.1 503")
        for part in (b"draining", b"retry-after: ", b"connection: close"):
            assert part in reply


def test_a_pool_under_load_sees_no_connection_break_and_idle_ones_end_with_the_delay() -> None:
    """Answers, and in the end that nobody listens: nothing else."""
    seen: set[object] = set()
    with simulated("--drain-delay-ms", "300") as server, raw(server) as idle:
        idle.sendall(POST)
        assert answer(idle)

        def ask() -> None:
            with httpx2.Client(base_url=server.url, timeout=DEADLINE) as http:
                while True:
                    try:
                        seen.add(http.post("/embed", json={"inputs": "a"}).status_code)
                    except httpx2.ConnectError:
                        return
                    except httpx2.HTTPError as error:
                        seen.add(repr(error))
                        return

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        server.until(lambda: server.stats()["ok"] > 100)
        server.http.close()
        sent = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert answer(idle) == b""  # closed, not reset
        assert time.monotonic() - sent >= 0.3
        for caller in callers:
            caller.join()
        assert server.close() == 0
        with pytest.raises(ConnectionRefusedError):
            raw(server)
    assert seen <= {200, 503}


def test_who_has_just_come_when_it_closes_the_door_is_still_answered() -> None:
    async def test() -> None:
        async with serving() as site:
            pooled = await site.connect()
            pooled.send(POST)
            await pooled.reply()
            racing = await site.connect()
            racing.send(POST)
            await racing.reply()
            # Both of these are with the kernel only: the event loop has not come to them yet.
            late = socket.create_connection(("127.0.0.1", site.port))
            plain = racing.writer.get_extra_info("socket")
            with socket.socket(fileno=socket.dup(plain.fileno())) as now:
                now.send(POST)
            assert await site.server.refuse_connections() > 0
            assert await pooled.rest() == b""
            assert (await racing.reply()).status == 200
            late.setblocking(False)
            with late:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(late, POST)
                assert b"200 OK" in await loop.sock_recv(late, 65536)
            with contextlib.suppress(ConnectionRefusedError):
                await site.connect()
                raise AssertionError("it still listens")

    run(test())


def test_an_upload_that_outlasts_everything_is_told_so() -> None:
    async def test() -> None:
        async with serving() as site:
            client = await site.connect()
            client.send(POST[:-1])
            await site.until(lambda: bool(site.server.server_state.tasks))
            site.front.stopping = True
            site.server.stop()
            reply = await client.reply()
            assert reply.status == 503
            assert reply.json()["code"] == "draining"

    run(test())


def test_a_request_that_races_the_closing_of_its_idle_connection_is_answered() -> None:
    async def test() -> None:
        async with serving() as site:
            racing = await site.connect()
            racing.send(POST)
            await racing.reply()
            plain = racing.writer.get_extra_info("socket")
            with socket.socket(fileno=socket.dup(plain.fileno())) as now:
                now.send(POST)  # with the kernel only: the event loop has not come to it yet
            site.connections.close_idle()
            assert (await racing.reply()).status == 200

    run(test())
