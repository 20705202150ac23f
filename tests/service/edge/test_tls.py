"""TLS: handshakes that succeed, fail or never end, and what is different about the connection."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service import arguments as flags
from service.edge.certificate import Certificate, CertificateFiles
from service.edge.connections import ConnectionTimeouts
from service.processes.control_channel import ControlChannel
from service.processes.frontend import _FrontendProcess
from service.settings import BadSetting, Settings
from tests.service.certificates import make_certificate
from tests.service.conftest import FakeClient, is_tei_error
from tests.service.loopback import CHUNKED, POST, HeldClient, Site, post, run, serving

SHORT = ConnectionTimeouts(receipt=0.3, reading=0.3, lingering=0.3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cert, key = make_certificate(tmp_path_factory.mktemp("tls"), "one")
    return {"tls_cert": str(cert), "tls_key": str(key)}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "other")


@pytest.fixture
def trusting(files: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files["tls_cert"])


@asynccontextmanager
async def refused(site: Site) -> AsyncIterator[list[Any]]:
    """What is counted and logged meanwhile of connections that reach no route."""
    seen: list[Any] = []
    site.connections._on_refusal = lambda problem, *_: seen.append((problem.status, problem.code))
    yield seen


def test_requests_are_answered_over_tls(files: dict[str, str], trusting: ssl.SSLContext) -> None:
    async def test() -> None:
        engine = FakeClient()
        async with serving(engine, **files) as site:
            client = await site.connect(tls=trusting)
            secured = client.writer.get_extra_info("ssl_object")
            assert secured.version() in ("TLSv1.2", "TLSv1.3")
            client.send(POST)
            assert (await client.reply()).status == 200
            assert (await site.connection())._parser._scope["scheme"] == "https"
            client.send(POST + POST)
            assert [(await client.reply()).status for _ in range(2)] == [200, 200]
            client.send(b"nonsense\r\n\r\n")
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (400, "close")
            assert is_tei_error(reply.json())
            assert await client.rest() == b""
            assert engine.last.caller == "127.0.0.1"

    run(test())


def test_a_large_body_and_a_refusal_of_one_that_is_still_being_sent(
    files: dict[str, str], trusting: ssl.SSLContext
) -> None:
    async def test() -> None:
        async with serving(**files, max_body_bytes=1 << 20) as site:
            client = await site.connect(tls=trusting)
            text = b'{"inputs": "%s"}' % (b"a" * 900_000)
            client.send(post(text))
            assert (await client.reply()).status == 200
            client.send(post(b"a" * (4 << 20)))
            assert (await client.reply()).status == 413
            client.send(POST)
            assert (await client.reply()).status == 200

    run(test())


def test_a_client_that_is_still_sending_can_read_why_it_is_refused(
    files: dict[str, str], trusting: ssl.SSLContext
) -> None:
    async def test() -> None:
        async with serving(**files) as site:
            client = await site.connect(tls=trusting)
            client.send(CHUNKED + b"zz\r\n" + b"a" * (8 << 20))
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (400, "close")

    run(test())


def test_plain_http_is_closed_at_once_and_counted(files: dict[str, str]) -> None:
    async def test() -> None:
        async with serving(**files) as site, refused(site) as seen:
            client = await site.connect()
            client.send(POST)
            assert await client.rest() == b""
            await site.until(lambda: bool(seen))
            assert seen == [(400, "plain_http")]
            assert not site.server.server_state.connections

    run(test())


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\x05hello", b"\x80" * 300, b"SSH-2.0-x\r\n"])
def test_what_is_no_handshake_is_closed_at_once_and_counted(
    files: dict[str, str], sent: bytes
) -> None:
    async def test() -> None:
        async with serving(**files) as site, refused(site) as seen:
            client = await site.connect()
            client.send(sent)
            await client.rest()  # an alert, perhaps
            await site.until(lambda: bool(seen))
            assert seen == [(400, "tls_handshake")]
            trusting = ssl.create_default_context(cafile=files["tls_cert"])
            good = await site.connect(tls=trusting)
            good.send(POST)
            assert (await good.reply()).status == 200

    run(test())


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_never_ends_has_as_long_as_a_head(
    files: dict[str, str], sent: bytes
) -> None:
    async def test() -> None:
        async with serving(**files, timeouts=SHORT) as site, refused(site) as seen:
            client = await site.connect()
            client.send(sent)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(1)
            assert seen == [(408, "request_timeout")]
            await site.until(lambda: not site.server.server_state.connections)

    run(test())


def test_a_client_that_goes_in_mid_handshake_leaves_nothing_behind(files: dict[str, str]) -> None:
    async def test() -> None:
        async with serving(**files) as site, refused(site) as seen:
            for is_reset in (True, False):
                client = await site.connect()
                client.send(b"\x16\x03\x01\x02\x00\x01")
                await site.until(lambda: bool(site.server.server_state.connections))
                client.reset() if is_reset else client.writer.close()
                await site.until(lambda: not site.server.server_state.connections)
            assert seen == []
            assert len(site.connections.awaiting_head) == 0

    run(test())


def test_handshakes_count_as_connections(files: dict[str, str], trusting: ssl.SSLContext) -> None:
    async def test() -> None:
        engine = HeldClient()
        async with serving(engine, **files, max_connections=1) as site, refused(site) as seen:
            busy = await site.connect(tls=trusting)
            busy.send(POST)
            await engine.submitted_one.wait()
            another = await site.connect()
            assert await another.rest() == b""
            assert seen == [(503, "unavailable")]
            engine.go.set()
            assert (await busy.reply()).status == 200
            idle_gives_way = await site.connect(tls=trusting)
            idle_gives_way.send(POST)
            assert (await idle_gives_way.reply()).status == 200

    run(test())


def test_a_client_that_does_not_read_is_cut_off(
    files: dict[str, str], trusting: ssl.SSLContext
) -> None:
    async def test() -> None:
        async with serving(**files, timeouts=SHORT, buffer=4096) as site:
            client = await site.connect(buffer=4096, tls=trusting)
            client.stop_reading()
            body = b'{"inputs": [%s]}' % b",".join([b'"a"'] * 250)
            client.send(post(body) * 100)
            await site.until(lambda: len(site.connections.stalled) > 0)
            await site.until(lambda: not site.server.server_state.connections)

    run(test())


def test_a_new_certificate_is_for_new_connections_and_a_broken_one_for_none(
    files: dict[str, str],
    others: tuple[Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_bytes(Path(files["tls_cert"]).read_bytes())
    key.write_bytes(Path(files["tls_key"]).read_bytes())
    trusting = [ssl.create_default_context(cafile=str(each)) for each in (cert, others[0])]

    async def test() -> None:
        async with serving(tls_cert=str(cert), tls_key=str(key)) as site:
            certificate = site.server._certificate
            assert certificate is not None
            settings = site.front.settings
            first = await site.connect(tls=trusting[0])
            cert.write_bytes(others[0].read_bytes())
            assert not certificate.reload(settings)  # the new key is not written yet
            assert "the old one stays: BATCHER_TLS_KEY" in caplog.text
            (await site.connect(tls=trusting[0])).send(POST)
            key.write_bytes(others[1].read_bytes())
            assert certificate.reload(settings)
            assert "is reloaded" in caplog.text
            second = await site.connect(tls=trusting[1])
            for client in (first, second):
                client.send(POST)
                assert (await client.reply()).status == 200

    run(test())


def test_a_certificate_that_cannot_be_used_is_told_in_one_line(
    files: dict[str, str], others: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = files["tls_cert"], files["tls_key"]
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x00" * 100)
    chain = tmp_path / "chain"
    chain.write_bytes(Path(cert).read_bytes() * 80)
    encrypted = tmp_path / "encrypted"
    encrypted.write_text(ENCRYPTED_KEY)
    for given, words in (
        ({"tls_key": key}, "needs BATCHER_TLS_CERT"),
        ({"tls_cert": cert}, "no certificate and key"),
        ({"tls_cert": str(tmp_path / "no")}, "cannot be read: No such file"),
        ({"tls_cert": cert, "tls_key": str(tmp_path)}, "TLS_KEY.* cannot be read: Is a directory"),
        ({"tls_cert": str(junk), "tls_key": key}, "no certificate and key in PEM"),
        ({"tls_cert": cert, "tls_key": str(junk)}, "no certificate and key in PEM"),
        ({"tls_cert": cert, "tls_key": str(others[1])}, "TLS_KEY.* of another certificate"),
        ({"tls_cert": cert, "tls_key": str(encrypted)}, "TLS_KEY.* the key is encrypted"),
        ({"tls_cert": str(chain), "tls_key": key}, "TLS_CERT.* more than 40000 bytes"),
    ):
        with pytest.raises(BadSetting, match=words) as raised:
            Certificate.of(flags.load(given))
        assert "\n" not in str(raised.value)
    both = tmp_path / "both"
    both.write_bytes(Path(cert).read_bytes() + Path(key).read_bytes())
    assert Certificate.of(Settings(tls_cert=str(both))) is not None
    assert Certificate.of(Settings()) is None


def test_a_frontend_gets_the_certificate_from_its_supervisor_and_not_from_the_files(
    files: dict[str, str], tmp_path: Path
) -> None:
    """They may be half renewed when it is started again."""
    settings = Settings(**files)
    read = CertificateFiles.read(settings)
    assert CertificateFiles.from_json(json.loads(json.dumps(read.as_json()))) == read
    gone = Settings(tls_cert=str(tmp_path / "no"), tls_key=str(tmp_path / "nor"), port=0)

    async def test() -> None:
        ours, theirs = ControlChannel.pair()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            frontend = _FrontendProcess(theirs, gone, (listener, read), 1)
            assert frontend._certificate is not None
            assert frontend._certificate.files == read
            frontend._control.close()
            frontend._state.close()
        ours.close()

    run(test())


def test_nothing_of_a_key_is_shown(files: dict[str, str]) -> None:
    assert "PRIVATE KEY" not in repr(CertificateFiles.read(Settings(**files)))


def test_clients_cannot_make_the_server_shake_hands_again(files: dict[str, str]) -> None:
    assert CertificateFiles.read(Settings(**files)).context().options & ssl.OP_NO_RENEGOTIATION


# Of a key that nothing uses; its password is x.
ENCRYPTED_KEY = """-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,C15DD94FC29A36B5AC60158B4AF2333F

cz1nCjBMKOuuN33kSU5GxOSSf7E8AHVpfh/Bq0TB9ueeyLFCc1lUStc1sKi7h+H/
d5k6J8HPXJ1KuQqPCjOfH3xJtZ9YedJYaXtjaMw8fbdCtW6F2KRqKdzcGW4C38wk
NEjHre6o1Suzg2i3ifVR5mvCWlujKvzL8grlgbNC3OM=
-----END EC PRIVATE KEY-----
"""
