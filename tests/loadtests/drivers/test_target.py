"""Claims about where requests may go, and how many."""

import argparse

import pytest

from loadtests.__main__ import parser
from loadtests.drivers.target import Target, count_between, number_between, parse_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:9000", Target("127.0.0.1", 9000)),
        ("localhost", Target("127.0.0.1", 8000)),
        ("127.8.0.1:81", Target("127.8.0.1", 81)),
        ("http://[::1]:8000", Target("::1", 8000)),
    ],
)
def test_loopback_is_accepted(url: str, target: Target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url", ["http://example.com", "10.0.0.1:8000", "http://0.0.0.0", "https://127.0.0.1", "//[::]"]
)
def test_every_other_host_is_refused(url: str):
    with pytest.raises(ValueError, match=r"loopback only|only http"):
        parse_target(url)


def test_command_line_refuses_another_host_with_the_reason(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["openloop", "--target", "http://192.0.2.1"])
    assert "drive the loopback only" in capsys.readouterr().err


def test_request_is_complete_with_its_length_in_bytes():
    request = Target("127.0.0.1", 80).post("/embed", "é".encode())
    assert request.startswith(b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert request.endswith(b"Content-Length: 2\r\n\r\n\xc3\xa9")


@pytest.mark.parametrize("text", ["0", "601", "nan", "many"])
def test_quantities_out_of_bounds_are_refused(text: str):
    with pytest.raises(argparse.ArgumentTypeError):
        number_between(0.1, 600)(text)


def test_counts_are_whole():
    assert count_between(1, 10)("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="whole"):
        count_between(1, 10)("3.5")
