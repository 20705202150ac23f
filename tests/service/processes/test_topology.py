"""How many processes a machine is given."""

from __future__ import annotations

from typing import Any

import pytest

from service.processes import topology
from service.processes.topology import Topology, frontends_for
from service.settings import BadSetting, Settings


def test_automatic_is_one_below_eight_cores_and_one_for_every_four_from_there() -> None:
    counts = {cores: frontends_for(cores) for cores in (1, 2, 7, 8, 11, 12, 16, 32, 128)}
    assert counts == {1: 1, 2: 1, 7: 1, 8: 2, 11: 2, 12: 3, 16: 4, 32: 8, 128: 8}


@pytest.mark.parametrize(
    ("given", "fronts", "is_alone"),
    [
        ({}, 1, True),
        ({"engine": "inline"}, 1, True),
        ({"engine": "process"}, 1, False),
        ({"frontends": 2}, 2, False),
        ({"frontends": "auto"}, 4, False),
        ({"frontends": "auto", "engine": "inline"}, 1, True),
    ],
)
def test_the_engine_is_inline_where_there_is_one_front_and_nothing_else_is_said(
    given: dict[str, Any], fronts: int, is_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "available_cores", lambda: 16)
    assert Topology.of(Settings(**given)) == Topology(fronts, is_alone)


def test_several_fronts_cannot_share_an_engine_that_is_in_one_of_them() -> None:
    with pytest.raises(BadSetting, match="BATCHER_ENGINE='inline'"):
        Topology.of(Settings(frontends=2, engine="inline"))
