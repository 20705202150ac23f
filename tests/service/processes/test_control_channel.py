"""The control channel between the supervisor and a process, both ends in this process."""

from __future__ import annotations

import socket

import pytest

from service.processes.control_channel import LONGEST_TEXT, ControlChannel
from tests.fakes import run_async


def test_messages_arrive_in_order_with_their_values_and_sockets() -> None:
    async def test() -> None:
        one, other = map(ControlChannel, ControlChannel.pair())
        ours, theirs = socket.socketpair()
        one.send("front", 3, theirs)
        theirs.close()
        one.send("drain")
        first, second = await other.receive(), await other.receive()
        assert first is not None
        assert second is not None
        assert (first[:2], second) == (("front", 3), ("drain", None, None))
        assert first.socket is not None
        assert not first.socket.get_inheritable()
        ours.sendall(b"hello")
        assert first.socket.recv(5) == b"hello"
        for each in (one, other, ours, first.socket):
            each.close()

    run_async(test())


def test_a_long_text_arrives_whole_and_one_that_is_too_long_is_not_sent() -> None:
    async def test() -> None:
        one, other = map(ControlChannel, ControlChannel.pair())
        long = "\N{GRINNING FACE}" * LONGEST_TEXT  # as JSON the longest there is
        one.send("failed", long)
        with pytest.raises(ValueError, match=r"'up' with \d+ bytes: at most \d+ can be sent"):
            one.send("up", 2 * long)
        one.send("up", "banner")
        first, second = await other.receive(), await other.receive()
        assert (first, second) == (("failed", long, None), ("up", "banner", None))
        one.close()
        other.close()

    run_async(test())


def test_the_end_of_the_other_side_receiveds_after_its_last_message() -> None:
    async def test() -> None:
        one, other = map(ControlChannel, ControlChannel.pair())
        one.send("up", "banner")
        one.close()
        last = await other.receive()
        assert last is not None
        assert last.kind == "up"
        assert await other.receive() is None
        other.send("to nobody")
        other.close()

    run_async(test())


def test_a_socket_that_nobody_took_is_closed_with_the_channel() -> None:
    async def test() -> None:
        one, other = map(ControlChannel, ControlChannel.pair())
        ours, theirs = socket.socketpair()
        one.send("drain")
        one.send("front", 0, theirs)
        theirs.close()
        await other.receive()
        while not other._received:
            other._read()
        other.close()
        assert ours.recv(1) == b""
        ours.close()
        one.close()

    run_async(test())
