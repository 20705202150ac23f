"""The bystanders of one injected fault: verdicts on all requests. Pure but for `judged`."""

from collections.abc import Iterable, Sequence
from math import ceil, log2

from loadtests.chaos import invariants
from loadtests.chaos.bench import Bench
from loadtests.chaos.invariants import Violation
from loadtests.chaos.scenario import Allowed
from loadtests.chaos.worker import is_drill
from loadtests.drivers.history import Call
from loadtests.drivers.reference_answers import Reference
from loadtests.reports.finding import Finding, none
from loadtests.servers.metrics_page import Counters

COUNTED_SECONDS = 5.0  # For the counters to agree: an answer is counted after it is sent.


def most_extra_runs(size: int) -> int:
    """Runs of halves that one culprit among so many may cost: 2·log2(size), batcher/recovery.py."""
    return 2 * ceil(log2(size))


def patience(predicted: float, hang_after: float) -> float:
    """Seconds after which a batch counts as hanging, by its predicted seconds."""
    return max(hang_after, 10 * predicted)


def otherwise(calls: Iterable[Call], status: int) -> int:
    """How many ended any other way."""
    return sum(call.status != status for call in calls)


def strangers(calls: Iterable[Call], reference: Reference) -> int:
    """How many 200s hold a vector that is not that of their own text."""
    answer, tolerance = reference.answer, reference.tolerance
    return sum(bool(invariants.own_answers([call], answer, tolerance)) for call in calls)


def verdicts(
    part: str, calls: Sequence[Call], reference: Reference, culprit: int
) -> tuple[Finding, ...]:
    """`culprit`: the status that is right for a request that is a drill."""
    culprits = [call for call in calls if is_drill(call.text)]
    mates = [call for call in calls if not is_drill(call.text)]
    found = [
        Finding(f"{part}: good requests", len(mates)),
        none(f"{part}: of them not answered 200", otherwise(mates, 200)),
        none(f"{part}: 200 with another's vector", strangers(calls, reference)),
        none(f"{part}: not exactly one outcome", sum(call.outcomes != 1 for call in calls)),
    ]
    if culprits:
        found += [
            Finding(f"{part}: culprits", len(culprits)),
            none(f"{part}: of them not answered {culprit}", otherwise(culprits, culprit)),
        ]
    return tuple(found)


def judged(bench: Bench, part: str, before: Counters, culprit: int = 500) -> list[Finding]:
    """Every request of the history, and the service's own count of them since `before`."""
    calls, allowed = bench.history.calls, Allowed(failing=is_drill)
    found = invariants.one_outcome(calls, allowed) + invariants.policy(calls, allowed)
    found += _miscounted(bench, before)
    for violation in found:
        print(f"{part}: {violation}", flush=True)
    return [
        *verdicts(part, calls, bench.reference, culprit),
        none(f"{part}: further invariants broken (lateness, error bodies, counters)", len(found)),
    ]


def _miscounted(bench: Bench, before: Counters) -> list[Violation]:
    found: list[Violation] = []

    def agree() -> bool:
        after = bench.metrics()
        found[:] = invariants.engine_conserves(after, idle=True)
        found.extend(invariants.counters_agree(before, after, bench.history.calls, bench.raw))
        return not found

    try:
        bench.wait_until("the counters agree", agree, COUNTED_SECONDS)
    except TimeoutError:
        return found
    return []
