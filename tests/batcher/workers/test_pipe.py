"""Messages over a socket pair, however they are cut on the way."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.workers.pipe import HEAD, MARK, NotAMessage, Pipe, Run, pack


class Ends:
    def __init__(self) -> None:
        theirs, ours = socket.socketpair()
        self.theirs, self.pipe = theirs, Pipe(ours)

    def close(self) -> None:
        self.theirs.close()
        self.pipe.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def payloads(received: tuple[int, memoryview]) -> list[object]:
    return list(pickle.loads(received[1]).payloads)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 400))
def test_messages_come_whole_and_in_order_wherever_they_are_cut(
    bodies: list[bytes], piece: int
) -> None:
    class Pieces:
        """A socket that gives so many bytes at a time."""

        def __init__(self) -> None:
            self.left = b"".join(pack(n, Run([body])) for n, body in enumerate(bodies))

        def fileno(self) -> int:
            return 0

        def recv(self, most: int) -> bytes:
            chunk, self.left = self.left[: min(piece, most)], self.left[min(piece, most) :]
            return chunk

        def recv_into(self, view: memoryview) -> int:
            chunk = self.recv(len(view))
            view[: len(chunk)] = chunk
            return len(chunk)

    pipe = Pipe(Pieces())  # type: ignore[arg-type]
    for number, body in enumerate(bodies):
        received = pipe.receive()
        assert (received[0], payloads(received)) == (number, [body])
    with pytest.raises(EOFError):
        pipe.receive()


def test_what_was_read_with_the_message_before_is_there(ends: Ends) -> None:
    assert not ends.pipe.is_there(0)
    ends.theirs.sendall(pack(1, Run(["a"])) + pack(2, Run(["b"])))
    assert payloads(ends.pipe.receive()) == ["a"]
    assert ends.pipe.is_there(0)
    assert payloads(ends.pipe.receive()) == ["b"]
    assert not ends.pipe.is_there(0)


@pytest.mark.parametrize(
    "garbage", [b"hello", b"b?", HEAD.pack(b"what", 1, 1), HEAD.pack(MARK, 1, 2**63)]
)
def test_what_is_no_message_is_known_from_its_first_bytes(ends: Ends, garbage: bytes) -> None:
    ends.theirs.sendall(garbage)
    with pytest.raises(NotAMessage):
        ends.pipe.receive()


def test_the_end_is_there_and_is_the_end(ends: Ends) -> None:
    ends.theirs.sendall(HEAD.pack(MARK, 1, 4096) + b"torn")
    ends.theirs.close()
    assert ends.pipe.is_there(0)
    with pytest.raises(EOFError):
        ends.pipe.receive()


def test_a_shut_pipe_gives_what_had_come_and_then_ends(ends: Ends) -> None:
    ends.theirs.sendall(pack(1, Run(["a"])))
    ends.pipe.shut()
    assert payloads(ends.pipe.receive()) == ["a"]
    with pytest.raises(EOFError):
        ends.pipe.receive()


def test_a_message_that_does_not_come_whole_in_the_time_allowed_is_not_waited_for(
    ends: Ends,
) -> None:
    ends.pipe.allow(0.001)
    with pytest.raises(BlockingIOError):
        ends.pipe.receive()
    ends.theirs.sendall(pack(1, Run(["a"]))[:-1])
    with pytest.raises(BlockingIOError):
        ends.pipe.receive()


def test_a_message_that_is_not_taken_in_the_time_allowed_is_given_up(ends: Ends) -> None:
    ends.pipe.allow(0.001)
    with pytest.raises(BlockingIOError):
        ends.pipe.send(b"x" * 10_000_000)  # more than a socket holds


@pytest.mark.parametrize("seconds", [1e-9, 0.5, 30.0, 1e12, float("inf")])
def test_any_time_can_be_allowed_and_another_one_after_it(ends: Ends, seconds: float) -> None:
    ends.pipe.allow(0.001)
    ends.theirs.sendall(pack(7, Run(["a"])))
    ends.pipe.allow(seconds)
    assert payloads(ends.pipe.receive()) == ["a"]


def test_what_comes_as_the_time_is_over_is_received_all_the_same() -> None:
    """Where the whole machine has stood still, the kernel's timer is the first to go off."""

    class Late:
        """A socket whose timer goes off with each first look."""

        def __init__(self, end: socket.socket) -> None:
            self._end = end

        def fileno(self) -> int:
            return self._end.fileno()

        def recv(self, most: int, flags: int = 0) -> bytes:
            if not flags:
                raise BlockingIOError
            return self._end.recv(min(most, HEAD.size + 1), flags)

        def recv_into(self, view: memoryview, most: int = 0, flags: int = 0) -> int:
            if not flags:
                raise BlockingIOError
            return self._end.recv_into(view, most, flags)

    theirs, ours = socket.socketpair()
    with theirs, ours:
        theirs.sendall(pack(7, Run(["a"])))
        assert payloads(Pipe(Late(ours)).receive()) == ["a"]  # type: ignore[arg-type]
