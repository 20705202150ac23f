"""The line between the supervisor and a process, both ends in this one."""

from __future__ import annotations

import socket

import pytest

from service.processes.control_channel import LONGEST_TEXT, Orders
from tests.fakes import run_async


def test_words_arrive_in_order_with_their_values_and_sockets() -> None:
    async def test() -> None:
        one, other = map(Orders, Orders.line())
        ours, theirs = socket.socketpair()
        one.say("front", 3, theirs)
        theirs.close()
        one.say("drain")
        first, second = await other.next(), await other.next()
        assert first is not None
        assert second is not None
        assert (first[:2], second) == (("front", 3), ("drain", None, None))
        assert first.end is not None
        assert not first.end.get_inheritable()
        ours.sendall(b"hello")
        assert first.end.recv(5) == b"hello"
        for each in (one, other, ours, first.end):
            each.close()

    run_async(test())


def test_a_long_text_arrives_whole_and_one_that_is_too_long_is_not_said() -> None:
    async def test() -> None:
        one, other = map(Orders, Orders.line())
        long = "\N{GRINNING FACE}" * LONGEST_TEXT  # as JSON the longest there is
        one.say("failed", long)
        with pytest.raises(ValueError, match=r"'up' with \d+ bytes: at most \d+ can be said"):
            one.say("up", 2 * long)
        one.say("up", "banner")
        first, second = await other.next(), await other.next()
        assert (first, second) == (("failed", long, None), ("up", "banner", None))
        one.close()
        other.close()

    run_async(test())


def test_the_end_of_the_other_side_comes_after_its_last_word() -> None:
    async def test() -> None:
        one, other = map(Orders, Orders.line())
        one.say("up", "banner")
        one.close()
        last = await other.next()
        assert last is not None
        assert last.word == "up"
        assert await other.next() is None
        other.say("to nobody")
        other.close()

    run_async(test())


def test_a_socket_that_nobody_took_is_closed_with_the_line() -> None:
    async def test() -> None:
        one, other = map(Orders, Orders.line())
        ours, theirs = socket.socketpair()
        one.say("drain")
        one.say("front", 0, theirs)
        theirs.close()
        await other.next()
        while not other._come:
            other._read()
        other.close()
        assert ours.recv(1) == b""
        ours.close()
        one.close()

    run_async(test())
