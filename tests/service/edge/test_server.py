"""What the edge may use of uvicorn, and what becomes of an application that fails."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.app import envelope_of
from service.edge.server import Server
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.loopback import POST, Site, run, running

SERVICE = Path(__file__).parents[3] / "service"


def trees() -> list[tuple[str, ast.Module]]:
    return [(str(path), ast.parse(path.read_text())) for path in sorted(SERVICE.rglob("*.py"))]


def is_private(module: str) -> bool:
    first, *parts = module.split(".")
    return first == "uvicorn" and (
        "protocols" in parts or any(part.startswith("_") for part in parts)
    )


def test_nothing_private_of_uvicorn_is_imported() -> None:
    named: set[str] = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert "uvicorn" in named
    assert {name for name in named if is_private(name)} == set()
    assert is_private("uvicorn._types.Scope")
    assert is_private("uvicorn.protocols.http.httptools_impl.HttpToolsProtocol")


def test_no_private_attribute_of_uvicorn_is_used_or_hidden_by_ours() -> None:
    config = uvicorn.Config("app")
    theirs = uvicorn.Server(config)
    private = {
        name
        for part in (theirs, config, theirs.server_state)
        for name in dir(part)
        if name.startswith("_") and not name.startswith("__")
    }
    assert private
    [tree] = [tree for path, tree in trees() if path.endswith("edge/server.py")]
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert names & private == set()


@contextlib.asynccontextmanager
async def serving_app(app: Any) -> AsyncIterator[Site]:
    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
        else:
            await app(scope, receive, send)

    front = make_front(FakeClient())
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(with_lifespan, 10, envelope_of, front.on_refusal)
    async with running(front, server, listener) as site:
        yield site


START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]}


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("a bug")


async def raises_after_the_head(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    raise ValueError("a bug")


async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
    await receive()


@pytest.mark.parametrize("app", [raises_at_once, raises_after_the_head, says_nothing])
def test_an_application_that_fails_before_its_response_is_a_500(app: Any) -> None:
    async def test() -> None:
        async with serving_app(app) as site:
            client = await site.connect()
            client.send(POST + POST)
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (500, "close")
            assert is_tei_error(reply.json())
            assert "a bug" not in reply.body.decode()
            assert await client.rest() == b""
            assert site.front.tally.counts() == {("other", "failed"): 1}

    run(test())


def test_a_client_that_ends_its_sending_finds_nothing_in_a_streamed_answer() -> None:
    half_closed = asyncio.Event()

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"1234", "more_body": True})
        await half_closed.wait()
        await send({"type": "http.response.body", "body": b"56789"})

    async def test() -> None:
        async with serving_app(streams) as site:
            client = await site.connect()
            client.send(POST)
            begun = await client.reader.readuntil(b"1234")
            assert begun.startswith(b"HTTP/1.1 200 ")
            connection = await site.connection()
            client.writer.write_eof()
            await site.until(lambda: connection._half_closed is not None)
            half_closed.set()
            assert await client.rest() == b"56789"

    run(test())


def test_a_response_that_breaks_off_ends_with_the_connection() -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"1234", "more_body": True})
        raise ValueError("a bug")

    async def test() -> None:
        async with serving_app(breaks_off) as site:
            client = await site.connect()
            client.send(POST + POST)
            said = await client.rest()
            assert said.startswith(b"HTTP/1.1 200 OK\r\n")
            assert said.endswith(b"\r\n\r\n1234")

    run(test())


def test_a_response_in_pieces_is_read_in_pieces() -> None:
    async def counts(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send(
                {"type": "http.response.body", "body": b"%d" % number, "more_body": number < 2}
            )

    async def test() -> None:
        async with serving_app(counts) as site:
            client = await site.connect()
            for _ in range(2):  # and the connection stays open
                client.send(POST)
                lines = await client.reader.readuntil(b"\r\n\r\n")
                assert b"transfer-encoding: chunked\r\n" in lines
                body = b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"
                assert await client.reader.readexactly(len(body)) == body
            client.reset()

    run(test())
