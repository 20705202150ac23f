from __future__ import annotations

import resource

import pytest

from service.edge.sockets import raise_fd_limit

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "set_to", "room"),
    [
        (1024, 1 << 20, 4224, 4096),  # raised, and no further than needed
        (1024, 2000, 2000, 1872),  # as far as it may
        (1 << 20, 1 << 20, None, 4096),
        (64, 64, None, 32),
        (1, 1, None, 1),
        (1024, INFINITE, 4224, 4096),
        (INFINITE, INFINITE, None, 4096),
    ],
)
def test_there_is_room_for_as_many_connections_as_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, set_to: int | None, room: int
) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    assert raise_fd_limit(4096) == room
    assert done == ([] if set_to is None else [(set_to, hard)])
