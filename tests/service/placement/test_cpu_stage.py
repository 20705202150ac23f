"""How many CPU processes, and on which cores."""

from __future__ import annotations

from typing import Any

import pytest

from service.placement.cpu_stage import cores_beside, cpu_workers
from service.placement.replica_count import Placement


@pytest.mark.parametrize(
    ("asked", "cores", "count"),
    [("auto", 1, 1), ("auto", 2, 1), ("auto", 6, 5), ("auto", 64, 8), (3, 1, 3), (0, 8, 0)],
)
def test_auto_leaves_a_core_to_the_event_loop(asked: Any, cores: int, count: int) -> None:
    assert cpu_workers(asked, cores) == count


@pytest.mark.parametrize(
    ("bound", "left"),
    [
        ([()], ()),  # nobody is bound
        ([(2, 3)], (0, 1)),
        ([(0, 1), (2, 3)], ()),  # all are taken, so any core will do
        ([(0,), ()], (1, 2, 3)),
    ],
)
def test_they_run_beside_the_workers_of_the_devices(
    bound: list[tuple[int, ...]], left: tuple[int, ...]
) -> None:
    assert cores_beside([Placement("cpu", cores) for cores in bound], range(4)) == left
