"""Every fault has its row, once; and a tiny run against a service of a few lines."""

import contextlib

import pytest

from loadtests.chaos import controls
from loadtests.chaos.bench import Bench, ServiceDied
from loadtests.chaos.command import choose, passed
from loadtests.chaos.faulty_service import LIES
from loadtests.chaos.judge import Verdict
from loadtests.chaos.report import summary
from loadtests.chaos.sabotage import DRILLS
from loadtests.chaos.scenario import NotRunnable, Scenario
from loadtests.chaos.table import TABLE
from loadtests.servers.launch import Variant

CLASSES = {"L": 12, "B": 22, "N": 10, "W": 17, "H": 8, "S": 6, "J": 8}
PROPERTIES = {"I1", "I2", "I3", "I4", "I5", "I6", "I7"}


def test_no_fault_has_two_rows() -> None:
    ids = [row.id for row in TABLE]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("letter", CLASSES)
def test_every_fault_has_a_row(letter: str) -> None:
    expected = {f"{letter}{number}" for number in range(1, CLASSES[letter] + 1)}
    assert {row.id for row in TABLE if row.id[0] == letter} == expected


def test_rows_say_what_they_do_and_why_they_do_not() -> None:
    for row in TABLE:
        words = row.reason if isinstance(row, NotRunnable) else row.expected
        assert row.injected, row.id
        assert words, row.id


def test_drills_exist() -> None:
    wanted = {row.drill for row in TABLE if isinstance(row, Scenario)} - {""}
    assert wanted <= set(DRILLS)


def test_every_invariant_has_a_lie_that_breaks_it() -> None:
    assert set(controls.CAUGHT_BY) == set(LIES)
    assert set(controls.CAUGHT_BY.values()) == PROPERTIES | {""}


def test_scenarios_are_chosen_by_id() -> None:
    assert [row.id for row in choose("W2,L8", real=False)] == ["L8", "W2"]
    assert choose(None, real=False) == list(TABLE)
    assert all(isinstance(row, Scenario) and row.real for row in choose(None, real=True))
    with pytest.raises(ValueError, match="X1"):
        choose("W2,X1", real=False)


def test_ci_runs_what_any_machine_can_judge() -> None:
    chosen = choose(None, real=False, ci=True)
    assert 35 <= len(chosen) < sum(isinstance(row, Scenario) for row in TABLE)
    assert {"W2", "W4", "W11", "W16", "W17", "B1", "N6", "S4"} <= {row.id for row in chosen}
    assert not any(isinstance(row, NotRunnable) or row.timed for row in chosen)


def test_rows_that_hang_on_speed_are_marked() -> None:
    verdicts = [
        Verdict("L1", "a", "b", "c", "survived", timed=True),
        Verdict("W1", "a", "b", "c", "survived"),
    ]
    lines = summary(verdicts, [], "").splitlines()
    assert "| L1 | a | b | c | yes | survived |" in lines
    assert "| W1 | a | b | c |  | survived |" in lines


def test_one_failure_fails_the_run() -> None:
    survived = Verdict("W1", "", "", "", "survived")
    assert passed([survived, Verdict("J1", "", "", "", "not runnable")], [])
    assert not passed([survived, Verdict("W2", "", "", "", "FAILED")], [])


def test_a_service_that_ended_is_told_from_one_that_is_slow() -> None:
    with contextlib.closing(_Closing(Bench())) as closing:
        closing.bench.start(
            Variant("honest", "loadtests.chaos.faulty_service", ("{port}", "honest"))
        )
        closing.bench.server.process.kill()
        closing.bench.server.process.wait()
        with pytest.raises(ServiceDied):
            closing.bench.metrics()


@pytest.mark.parametrize("lie", ["swaps", "spared"])
def test_a_lie_is_caught(lie: str) -> None:
    assert controls.control(lie).caught


class _Closing:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def close(self) -> None:
        self.bench.stop()
