from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.placement.cores import Share, default_threads, physical_cores, share_out, spared


def cores(count: int) -> list[tuple[int, ...]]:
    return [(number,) for number in range(count)]


def test_threads_share_the_cores_and_leave_one_to_the_front() -> None:
    assert [default_threads(cores, 1) for cores in (1, 2, 3, 4, 16)] == [1, 2, 3, 3, 15]
    assert [default_threads(16, replicas) for replicas in (2, 4, 100)] == [7, 3, 1]


def test_one_replica_is_not_bound_and_sees_for_itself() -> None:
    assert share_out(cores(16), 16, 1) == [Share()]
    assert share_out(cores(16), 16, 1, threads=3) == [Share((), 3)]


def test_replicas_get_neighbouring_cores_and_the_front_what_is_left_over() -> None:
    assert share_out(cores(2), 2, 2) == [Share((0,), 1), Share((1,), 1)]
    assert share_out(cores(8), 8, 2) == [Share((2, 3, 4), 3), Share((5, 6, 7), 3)]
    assert share_out(cores(4), 4, 3) == [Share((number,), 1) for number in (1, 2, 3)]


def test_a_physical_core_is_not_split_while_there_are_enough() -> None:
    siblings = [(number, number + 4) for number in range(4)]
    assert share_out(siblings, 8, 3) == [Share((n, n + 4), 1) for n in (1, 2, 3)]
    halves = share_out(siblings, 8, 5)
    assert halves == [Share((number,), 1) for number in (5, 2, 6, 3, 7)]


def test_more_replicas_than_cores_or_more_threads_than_a_set_are_not_bound() -> None:
    assert share_out(cores(2), 2, 3) == [Share((), 1)] * 3
    assert share_out(cores(8), 8, 2, threads=4) == [Share((), 4)] * 2
    assert share_out(cores(8), 8, 2, threads=2)[0] == Share((2, 3, 4), 2)


def test_a_quota_bounds_the_threads_and_leaves_the_sets_wide() -> None:
    """Bound to the first cores of a machine, containers would all meet on the same ones."""
    assert share_out(cores(16), 4, 2) == [
        Share((2, 3, 4, 5, 6, 7, 8), 1),
        Share((9, 10, 11, 12, 13, 14, 15), 1),
    ]


@given(
    st.integers(1, 64), st.integers(1, 2), st.integers(1, 64), st.integers(2, 80), st.integers(0, 9)
)
def test_sets_are_disjoint_of_one_size_and_hold_their_threads(
    count: int, siblings: int, quota: int, replicas: int, threads: int
) -> None:
    each = [tuple(range(n, count * siblings, count)) for n in range(count)]
    shares = share_out(each, quota, replicas, threads)
    assert len(shares) == replicas
    assert len({len(share.cores) for share in shares}) == 1
    used = [number for share in shares for number in share.cores]
    assert len(used) == len(set(used))
    assert set(used) <= {number for core in each for number in core}
    for share in shares:
        assert share.threads >= 1
        assert not share.cores or share.threads <= len(share.cores)
    if used and count >= 4:
        assert len(used) <= count * siblings - spared(count)


def test_cores_are_read_socket_by_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two sockets whose numbers alternate, with two hardware threads in each core."""
    for number in range(8):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{number % 2}\n")
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5, 7})
    assert physical_cores(tmp_path) == [(0, 4), (2,), (1, 5), (3, 7)]
    assert physical_cores(tmp_path / "nothing") == [(n,) for n in (0, 1, 2, 3, 4, 5, 7)]
