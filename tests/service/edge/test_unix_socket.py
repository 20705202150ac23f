"""A listening unix socket and its file."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from batcher.clock import MonotonicClock
from service.app import create_app, envelope_of
from service.edge.server import Server
from service.edge.sockets import listen, port_of
from service.edge.unix_socket import SocketFile
from service.settings import Settings
from tests.service.conftest import FakeClient, make_front
from tests.service.loopback import POST, Client, run, running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(unix_socket=str(tmp_path / "batcher.sock"))


def test_requests_are_answered_over_a_unix_socket(settings: Settings) -> None:
    async def test() -> None:
        listener = listen(settings)
        assert port_of(listener) == 0
        engine = FakeClient()
        front = make_front(engine, MonotonicClock())
        server = Server(create_app(front), 10, envelope_of, front.on_refusal)
        async with running(front, server, listener):
            reader, writer = await asyncio.open_unix_connection(settings.unix_socket)
            client = Client(reader, writer)
            client.send(POST + POST)
            assert [(await client.reply()).status for _ in range(2)] == [200, 200]
            assert engine.last.caller is None
            client.send(b"nonsense\r\n\r\n")
            assert (await client.reply()).status == 400
            assert await client.rest() == b""
            writer.close()

    run(test())


def test_a_file_that_a_killed_service_left_behind_is_replaced(settings: Settings) -> None:
    assert settings.unix_socket is not None
    listen(settings).close()
    listener = listen(settings)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(settings.unix_socket)
    listener.close()


@pytest.mark.parametrize("backlog_is_full", [False, True])
def test_a_socket_that_is_listened_on_is_not_taken(
    settings: Settings, backlog_is_full: bool
) -> None:
    assert settings.unix_socket is not None
    with listen(settings) as listener:
        waiting = []
        if backlog_is_full:
            listener.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(settings.unix_socket)
        with pytest.raises(OSError, match="Address already in use"):
            listen(settings)
        for one in waiting:
            one.close()
    assert Path(settings.unix_socket).is_socket()


def test_a_file_that_is_no_socket_is_not_removed(settings: Settings) -> None:
    assert settings.unix_socket is not None
    Path(settings.unix_socket).write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        listen(settings)
    assert Path(settings.unix_socket).read_text() == "precious"


def test_of_two_that_start_at_once_one_gets_the_file(settings: Settings) -> None:
    listen(settings).close()  # left behind
    got: list[object] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        try:
            got.append(listen(settings))
        except OSError as error:
            got.append(error.strerror)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    [listener] = [each for each in got if isinstance(each, socket.socket)]
    assert got.count("Address already in use") == 3
    listener.close()


def test_the_file_is_removed_unless_it_is_anothers_by_now(settings: Settings) -> None:
    assert settings.unix_socket is not None
    path = Path(settings.unix_socket)
    first = listen(settings)
    ours = SocketFile.of(first)
    first.close()  # as in a shutdown: the file is still there
    second = listen(settings)
    theirs = SocketFile.of(second)
    assert ours is not None
    assert theirs is not None
    ours.remove()
    assert path.is_socket()
    theirs.remove()
    assert not path.exists()
    theirs.remove()
    second.close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert SocketFile.of(other) is None


def test_a_folder_that_has_gone_does_not_change_how_the_service_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with listen(Settings(unix_socket=str(folder / "batcher.sock"))) as listener:
        file = SocketFile.of(listener)
    assert file is not None
    folder.rename(tmp_path / "elsewhere")
    file.remove()
    folder.write_text("a file")
    file.remove()
    assert "cannot be removed: Not a directory" in caplog.text
