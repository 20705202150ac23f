"""What must hold of every request and every counter, whatever was injected. Pure: no I/O."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.chaos.scenario import Allowed
from loadtests.drivers.history import Call, Vector
from loadtests.drivers.reference_answers import EMBED
from loadtests.servers.metrics_page import Counters
from service.errors import outcome_of

LATE_SECONDS = 1.0  # That an outcome may come after its deadline.
REFUSALS = (429, 503)
SHOWN = 3  # Examples of a violation.

INVARIANTS = {
    "I1": "every request has exactly one outcome, within its deadline and a second",
    "I2": "every 200 is the answer to its own input",
    "I3": "nothing is counted twice or not at all: the service's counters agree with its clients",
    "I4": "5xx other than 503 and 504 only where a model exception was injected; errors are JSON"
    " with the request's id; 429 and 503 say when to come back",
    "I5": "alive within a second, ready and right again within the budget, as fast as before",
    "I6": "no process, thread, descriptor, zombie, shared memory or memory is left over",
    "I7": "each fault that the scenario names was injected, by the word of its injector",
}


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def injected(wanted: Mapping[str, int], counts: Mapping[str, int]) -> list[Violation]:
    """A service that was spared a fault has not survived it."""
    return [
        Violation("I7", f"{name} was injected {counts.get(name, 0)} times of {times}")
        for name, times in wanted.items()
        if counts.get(name, 0) < times
    ]


def one_outcome(calls: Sequence[Call], allowed: Allowed) -> list[Violation]:
    never = [call for call in calls if call.outcomes == 0]
    twice = [call for call in calls if call.outcomes > 1]
    late = [c for c in calls if c.outcomes and c.answered - c.sent > c.timeout + LATE_SECONDS]
    found = [
        *_violation("I1", "never answered", never),
        *_violation("I1", "answered twice", twice),
        *_violation("I1", "answered after the deadline", late),
    ]
    if not allowed.unknown:
        cut = [call for call in calls if call.kind == "unknown"]
        found += _violation("I1", "connection ended without an answer", cut)
    return found


def own_answers(
    calls: Sequence[Call], answer: Callable[[str], Vector], tolerance: float
) -> list[Violation]:
    """Of calls with one text: others are their scenario's to check."""
    wrong = [
        call
        for call in calls
        if call.kind == "ok" and not _is(call.vector, answer(call.text), tolerance)
    ]
    return _violation("I2", "not the answer to its own input", wrong)


def policy(calls: Sequence[Call], allowed: Allowed) -> list[Violation]:
    answered = [call for call in calls if call.status]
    errors = [call for call in answered if call.status >= 400]
    blamed = [
        call
        for call in errors
        if call.status >= 500
        and call.status not in (503, 504)
        and not (call.status == 500 and allowed.failing(call.text))
    ]
    silent = [call for call in errors if call.status in REFUSALS and not _says_when(call)]
    return [
        *_violation("I4", "a server error that is not its own fault", blamed),
        *_violation(
            "I4", "an error that is not JSON with its id", [c for c in errors if not _tells_id(c)]
        ),
        *_violation("I4", "a refusal without Retry-After", silent),
    ]


def engine_conserves(counters: Counters, idle: bool) -> list[Violation]:
    """Of one scrape: accepted = ended + waiting + running, and the last two 0 when idle."""
    accepted = counters.get("batcher_inputs_accepted_total")
    ended = counters.get("batcher_inputs_total")
    held = counters.get("batcher_queue_depth") + counters.get("batcher_inputs_running")
    found = []
    if accepted != ended + held:
        found.append(
            Violation("I3", f"accepted {accepted:g}, but {ended:g} ended and {held:g} are inside")
        )
    if idle and held:
        found.append(Violation("I3", f"{held:g} inputs are inside an idle service"))
    return found


def counters_agree(
    before: Counters, after: Counters, calls: Sequence[Call], raw: bool
) -> list[Violation]:
    """Of the route that was called, between two scrapes. `raw`: others sent too, so more may be
    counted than seen."""
    [route] = {call.ask.path for call in calls} or {EMBED.path}
    seen = Counter(outcome_of(call.status) for call in calls if call.status)
    unknown = sum(not call.status for call in calls)
    name, extra, found = "batcher_requests_total", 0.0, []
    labels = {dict(has).get("outcome", "") for (one, has) in after.samples if one == name}
    for outcome in sorted(labels | set(seen)):
        counted = after.get(name, route=route, outcome=outcome) - before.get(
            name, route=route, outcome=outcome
        )
        extra += counted - seen[outcome]
        if counted < seen[outcome]:
            found.append(
                Violation("I3", f"clients saw {seen[outcome]} {outcome}, it counted {counted:g}")
            )
    if extra > unknown and not raw:
        found.append(
            Violation("I3", f"{extra:g} more counted than answered; {unknown} have no answer")
        )
    return found


def _violation(invariant: str, what: str, calls: Sequence[Call]) -> list[Violation]:
    if not calls:
        return []
    examples = "; ".join(f"{call.outcome} for {call.text[:40]!r}" for call in calls[:SHOWN])
    return [Violation(invariant, f"{len(calls)} times {what} ({examples})")]


def _is(found: Vector | None, expected: Vector, tolerance: float) -> bool:
    """Of length 1 or as it is: a runner's own vector is brought to length 1 by the service."""
    if found is None or found.shape != expected.shape:
        return False
    scaled = expected / (float(np.linalg.norm(expected)) or 1.0)
    return any(
        bool(np.allclose(found, each, rtol=0, atol=tolerance)) for each in (expected, scaled)
    )


def _tells_id(call: Call) -> bool:
    document = call.document
    if not isinstance(document, dict):
        return False
    inner = document.get("error")
    told = document.get("request_id") or (
        inner.get("request_id") if isinstance(inner, dict) else None
    )
    return bool(told) and told == call.headers.get("x-request-id")


def _says_when(call: Call) -> bool:
    seconds = call.headers.get("retry-after", "")
    return seconds.isdecimal() and int(seconds) >= 1
