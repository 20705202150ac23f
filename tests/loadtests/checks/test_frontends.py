"""Claims about how `frontends` judges the death of a front and of the engine."""

import os

from loadtests.checks import frontends
from loadtests.drivers.closedloop import CallRecord
from loadtests.reports.finding import Finding, holds
from loadtests.servers import procfs as processes


def asked(caller: int, sent: float, status: str, front: str = "") -> CallRecord:
    return CallRecord(
        caller, "text", sent, sent + 1.0, status, front, status == "503", status == "200"
    )


BEFORE = [asked(0, 0.0, "200", "a"), asked(1, 0.1, "200", "b"), asked(2, 0.2, "200", "a")]
AFTER = [asked(0, 3.0, "200", "b"), asked(1, 3.1, "200", "b"), asked(2, 3.2, "200", "c")]


def missed(found: list[Finding]) -> set[str]:
    return {finding.what for finding in found if finding.ok is False}


def test_a_killed_front_may_cut_off_its_own_connections_and_no_others() -> None:
    cut = [asked(0, 2.0, "closed"), asked(1, 2.0, "200", "b"), asked(2, 2.0, "closed")]
    assert holds(frontends.bystanders([*BEFORE, *cut, *AFTER], kills=1))
    cut[1] = asked(1, 2.0, "closed")
    assert missed(frontends.bystanders([*BEFORE, *cut, *AFTER], kills=1)) == {
        "front: of different fronts",
        "front: of fronts that answered later requests",
    }


def test_a_refusal_and_a_strangers_vector_are_a_miss_when_a_front_dies() -> None:
    wrong = asked(1, 2.0, "200", "b")
    wrong.is_right = False
    found = frontends.bystanders([*BEFORE, wrong, asked(2, 2.5, "503", "b")], kills=1)
    assert missed(found) == {
        "front: 200 with another's vector",
        "front: neither answered 200 nor cut off",
    }


def test_what_is_in_flight_when_the_engine_dies_gets_503_and_then_it_is_as_before() -> None:
    flying = [asked(caller, 2.0, "503", "a") for caller in range(3)]
    assert holds(frontends.replaced("engine", [*BEFORE, *flying, *AFTER], killed=2.5))


def test_a_connection_that_the_dead_engine_cut_is_a_miss() -> None:
    flying = [asked(0, 2.0, "503", "a"), asked(1, 2.0, "closed")]
    found = frontends.replaced("engine", [*BEFORE, *flying, *AFTER], killed=2.5)
    assert missed(found) == {"engine: in flight, neither 200 nor 503"}


def test_an_engine_that_never_comes_back_is_a_miss() -> None:
    flying = [asked(0, 2.0, "503", "a"), asked(0, 3.0, "503", "a")]
    found = frontends.replaced("engine", [*BEFORE, *flying], killed=2.5)
    assert missed(found) == {"engine: 200 again, after the kill"}


def test_what_was_accepted_and_has_no_outcome_is_a_miss() -> None:
    counts = {"accepted": 5, "ok": 2, "failed": 1, "expired": 1, "cancelled": 1}
    assert holds(frontends.conserved("front", counts))
    assert not holds(frontends.conserved("front", {**counts, "accepted": 6}))


def test_rounds_are_compared_each_with_its_own() -> None:
    assert frontends.beside("x", [90.0, 45.0, 91.0], [100.0, 50.0, 100.0]).ok
    assert frontends.beside("x", [89.0, 45.0, 89.0], [100.0, 50.0, 100.0]).ok is False


def test_a_process_knows_its_parent() -> None:
    assert processes.parent(os.getpid()) == os.getppid()
    assert processes.parent(2**22 + 1) == 0
