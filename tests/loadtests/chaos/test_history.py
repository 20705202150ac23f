"""For each invariant a history that keeps it, and one or more that break it."""

import json

import pytest

from loadtests.chaos import invariants, resources
from loadtests.chaos.resources import Resources, Usage
from loadtests.chaos.scenario import Allowed
from loadtests.drivers.history import Call, History
from loadtests.drivers.http_client import Answer
from loadtests.drivers.reference_answers import Computed
from loadtests.servers.metrics_page import parse

REFERENCE = Computed()
NOTHING = Allowed()


def call(status: int = 200, text: str = "a text", **changes: object) -> Call:
    """One that was sent at 0 and answered at 0.1, as it should be."""
    made = Call(text, 1.0, 0.0, answered=0.1, outcomes=1, status=status)
    if status == 200:
        made.body = json.dumps([REFERENCE.answer(text).tolist()]).encode()
    elif status:
        made.body = json.dumps({"error": "no", "request_id": "r1"}).encode()
        made.headers = {"x-request-id": "r1", "retry-after": "1"}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def breaks(calls: list[Call], allowed: Allowed = NOTHING) -> set[str]:
    found = invariants.one_outcome(calls, allowed)
    found += invariants.own_answers(calls, REFERENCE.answer, REFERENCE.tolerance)
    found += invariants.policy(calls, allowed)
    return {violation.invariant for violation in found}


def page(accepted: int, ok: int, waiting: int = 0, counted: int | None = None) -> str:
    answered = ok if counted is None else counted
    return (
        f"# HELP x y\nbatcher_inputs_accepted_total {accepted}\n"
        f'batcher_inputs_total{{outcome="ok"}} {ok}\nbatcher_queue_depth {waiting}.0\n'
        f"batcher_inputs_running 0\n"
        f'batcher_requests_total{{route="/embed",outcome="ok"}} {answered}\n'
    )


@pytest.mark.parametrize("status", [200, 400, 422, 429, 503, 504])
def test_an_ordinary_outcome_breaks_nothing(status: int) -> None:
    assert breaks([call(status)]) == set()


@pytest.mark.parametrize(
    ("changes", "invariant"),
    [
        ({"outcomes": 0, "status": 0}, "I1"),
        ({"outcomes": 2}, "I1"),
        ({"answered": 2.1}, "I1"),
        ({"status": 0, "error": "closed", "body": b""}, "I1"),
        ({"body": json.dumps([REFERENCE.answer("another").tolist()]).encode()}, "I2"),
        ({"body": b"[[1.0, 2.0]]"}, "I2"),
        ({"body": b"[[null]]"}, "I2"),
        ({"body": b"no json"}, "I2"),
    ],
)
def test_an_answer_that_is_late_double_missing_or_not_ones_own_is_seen(
    changes: dict[str, object], invariant: str
) -> None:
    assert breaks([call(), call(**changes)]) == {invariant}


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (500, {}),
        (502, {}),
        (429, {"headers": {"x-request-id": "r1"}}),
        (503, {"headers": {"x-request-id": "r1", "retry-after": "0"}}),
        (503, {"headers": {"x-request-id": "r1", "retry-after": "soon"}}),
        (504, {"headers": {"x-request-id": "r2"}}),
        (400, {"body": b"Bad Request"}),
        (422, {"body": b'["no object"]'}),
    ],
)
def test_an_error_against_the_policy_is_seen(status: int, changes: dict[str, object]) -> None:
    assert breaks([call(status, **changes)]) == {"I4"}


def test_a_culprit_may_get_500_and_only_a_culprit() -> None:
    allowed = Allowed(failing=lambda text: text.startswith("fault:"))
    assert breaks([call(500, "fault:raise")], allowed) == set()
    assert breaks([call(500, "fault:raise"), call(500, "its neighbour")], allowed) == {"I4"}


def test_a_cut_connection_is_forgiven_where_the_fault_explains_it() -> None:
    cut = call(0, error="closed")
    assert breaks([cut], Allowed(unknown=True)) == set()
    assert breaks([cut, call(0, outcomes=0)], Allowed(unknown=True)) == {"I1"}


def test_a_history_remembers_the_first_outcome_and_counts_the_second() -> None:
    history = History()
    one = history.begin("text", 1.0, 0.0)
    one.settle(Answer(200, b"", b"[[1.0]]", headers=((b"x-request-id", b"r"),)))
    one.settle(Answer(500))
    assert (one.status, one.outcomes, one.headers) == (200, 2, {"x-request-id": "r"})
    late = history.begin("text", 1.0, 0.0)
    late.abandoned = True
    late.settle(Answer(error="closed"))
    assert late.kind == "invoked"
    assert history.outcomes() == {"200": 1, "lost": 1}


def test_the_engines_counters_add_up() -> None:
    assert not invariants.engine_conserves(parse(page(10, 10)), idle=True)
    assert not invariants.engine_conserves(parse(page(10, 8, waiting=2)), idle=False)


@pytest.mark.parametrize("falsified", [page(11, 10), page(9, 10), page(10, 8, waiting=2)])
def test_a_counter_that_was_falsified_is_seen(falsified: str) -> None:
    assert invariants.engine_conserves(parse(falsified), idle=True)


def agree(calls: list[Call], counted: int, raw: bool = False) -> bool:
    before, after = parse(page(5, 5, counted=5)), parse(page(9, 9, counted=5 + counted))
    return not invariants.counters_agree(before, after, calls, raw)


def test_the_services_counts_are_its_clients_counts() -> None:
    assert agree([call(), call()], 2)
    assert not agree([call(), call()], 1)
    assert not agree([call(), call()], 3)


def test_a_call_without_an_answer_may_have_been_counted_or_not() -> None:
    calls = [call(), call(0, error="closed")]
    assert agree(calls, 1)
    assert agree(calls, 2)
    assert not agree(calls, 3)


def test_what_others_sent_may_be_counted_too() -> None:
    assert agree([call()], 7, raw=True)
    assert not agree([call()], 0, raw=True)


HELD = Resources([Usage(1, 100.0, 30, 10), Usage(2, 80.0, 9, 3)], 0, 0)


def test_what_comes_and_goes_is_no_leak() -> None:
    later = Resources([Usage(1, 110.0, 30, 14), Usage(3, 200.0, 9, 3)], 0, 0)
    assert not resources.compare(HELD, later, growth_mb=24)


@pytest.mark.parametrize(
    "later",
    [
        Resources([Usage(1, 130.0, 30, 10), HELD.usages[1]], 0, 0),
        Resources([Usage(1, 100.0, 31, 10), HELD.usages[1]], 0, 0),
        Resources([Usage(1, 100.0, 30, 17), HELD.usages[1]], 0, 0),
        Resources([*HELD.usages, Usage(3, 80.0, 9, 3)], 0, 0),
        Resources([HELD.usages[0], Usage(2, 80.0, 10, 3)], 0, 0),
        Resources(HELD.usages, 1, 0),
        Resources(HELD.usages, 0, 1),
    ],
)
def test_each_kind_of_leak_is_seen(later: Resources) -> None:
    [violation] = resources.compare(HELD, later, growth_mb=24)
    assert violation.invariant == "I6"
