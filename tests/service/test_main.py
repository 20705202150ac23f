"""The start and the end of the process, as far as they can be shown without one."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading

import pytest

from service import main as launch
from service.edge.sockets import listen
from service.placement.layout import Layout
from service.processes import exit_codes as exits
from service.processes.single import SingleProcess
from service.processes.terminal import print_banner
from service.settings import Settings


@pytest.mark.parametrize("host", ["127..0.0.1", "a" * 64, "no such host", "nowhere.invalid"])
def test_a_host_that_is_none_is_a_bad_setting(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_HOST", host)
    monkeypatch.setattr("service.main.start_logging", lambda options: None)
    assert launch.main(["--runner", "simulated", "--port", "0"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"batcher: BATCHER_HOST={host!r}: must be an address or a name")


def test_it_listens_at_once_and_a_second_one_is_told() -> None:
    with listen(Settings(port=0)) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass
        with pytest.raises(OSError, match="Address already in use"):
            listen(Settings(port=port))


def test_a_socket_that_is_only_bound_does_not_count_as_taken_until_one_listens() -> None:
    """Two services that start together: both may bind, and one is told."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        with listen(Settings(port=other.getsockname()[1])), pytest.raises(OSError):  # noqa: PT011
            other.listen()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("of uvicorn"), "of uvicorn"),
        # What it does where the application does not start: straight through the event loop.
        (SystemExit(3), "the HTTP server did not start (exit code 3)"),
    ],
)
def test_what_ends_the_http_server_is_in_the_log_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    told: str,
) -> None:
    async def broken(self: object, sockets: object) -> None:
        raise error

    monkeypatch.setattr("service.edge.server.Server.serve", broken)
    given = Settings(runner="simulated", port=0)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in signals]
    with listen(given) as listener:
        service = SingleProcess(given, listener, Layout())
        try:
            assert asyncio.run(asyncio.wait_for(service.run(), 30)) == exits.CRASHED
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "the HTTP server failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == told
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batching")]


def test_nobody_to_read_the_banner_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        print_banner("ready")
        print_banner("once more")  # to nowhere
        monkeypatch.undo()
    assert caplog.messages == ["the banner cannot be printed: [Errno 32] Broken pipe"]


def test_the_settings_are_printed_to_a_reader_that_stops_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert launch.main(["--runner", "simulated", "--print-config"]) == exits.OK


@pytest.mark.parametrize(
    ("host", "key", "is_warned"),
    [
        ("127.0.0.1", None, False),
        ("0.0.0.0", "secret", False),
        ("0.0.0.0", None, True),
        ("::1", None, False),
        ("::", None, True),
    ],
)
def test_an_open_address_without_a_key_is_warned_of(
    caplog: pytest.LogCaptureFixture, host: str, key: str | None, is_warned: bool
) -> None:
    given = Settings.model_validate({"host": host, "port": 0, "api_key": key})
    try:
        listener = listen(given)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    with listener, caplog.at_level(logging.WARNING):
        launch.log_address(given, listener)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * is_warned
    assert all("without BATCHER_API_KEY" in record.getMessage() for record in caplog.records)
