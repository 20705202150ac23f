"""Runs one scenario and checks what must hold after any: the verdict is both."""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.chaos import invariants, resources
from loadtests.chaos.bench import Bench
from loadtests.chaos.invariants import Violation
from loadtests.chaos.scenario import NotHere, Scenario
from loadtests.drivers.timer import now
from loadtests.servers.metrics_page import Counters

LIVE_SECONDS = 1.0
SETTLE_SECONDS = 3.0  # For closed connections and replaced workers to be gone.
PROBES = 5
SLOWER = 1.1  # That probes may be after a fault, by ratio …
SLOWER_SECONDS = 0.01  # … and by the noise of a machine that others use too.


@dataclass(frozen=True, slots=True)
class Verdict:
    id: str
    injected: str
    expected: str
    observed: str
    verdict: str  # survived, FAILED, not runnable
    violations: Sequence[Violation] = ()
    seconds: float = 0.0


def judge(bench: Bench, scenario: Scenario, restore: bool = True) -> Verdict:
    """Never raises for what the service does: that is in the verdict.

    `restore`: after a failure the next scenario gets new processes.
    """
    began = now()
    try:
        survived, observed, found = _run(bench, scenario)
    except NotHere as reason:
        return _verdict(scenario, str(reason), "not runnable", [], began)
    except Exception as error:  # The scenario could not finish: for its own fault or the service's.
        traceback.print_exc()
        survived, observed, found = False, f"{type(error).__name__}: {error}", []
        if restore:
            _restore(bench)
    if found and restore:
        _restore(bench)  # The next scenario must not suffer for this one.
    if found:
        observed += ". " + ". ".join(map(str, found))
    good = survived and not found
    return _verdict(scenario, observed, "survived" if good else "FAILED", found, began)


def _run(bench: Bench, scenario: Scenario) -> tuple[bool, str, list[Violation]]:
    bench.begin()
    before, held, speed = bench.metrics(), resources.read(bench.pid), bench.speed
    finding = scenario.run(bench)
    bench.injections.acknowledge("request", len(bench.history.calls) + bench.raw)
    injected = bench.injections.counts()
    if scenario.allowed.restarts and not bench.alive():
        bench.restart()
    bench.check_alive()
    found = invariants.injected(scenario.injects, injected)
    found += _recovered(bench, scenario, speed)
    calls, allowed = bench.history.calls, scenario.allowed
    found += invariants.one_outcome(calls, allowed)
    found += invariants.own_answers(calls, bench.reference.answer, bench.reference.tolerance)
    found += invariants.policy(calls, allowed)
    found += _counted(bench, before)
    if not bench.restarted:
        found += _left_over(bench, held, allowed.growth_mb)
    return finding.survived, finding.observed, found


def _recovered(bench: Bench, scenario: Scenario, speed: float) -> list[Violation]:
    began = now()
    try:
        alive = bench.get("/health/live", LIVE_SECONDS)[0] == 200
    except OSError:
        alive = False
    if not alive:
        return [Violation("I5", f"/health/live did not answer 200 within {LIVE_SECONDS:g} s")]
    try:
        bench.wait_until("ready", bench.is_ready, scenario.recovery)
    except TimeoutError as error:
        return [Violation("I5", str(error))]
    ready = now() - began
    limit = speed * SLOWER + SLOWER_SECONDS
    # The first probes after a fault may still meet what it left behind: within the budget.
    while True:
        timeout = max(1.0, scenario.recovery - (now() - began))
        call = bench.post(timeout=timeout)
        if call.kind == "ok":
            taken = bench.measure_speed(PROBES)
            if taken <= limit:
                return []
            problem = f"probes take {taken * 1e3:.1f} ms, {speed * 1e3:.1f} before the fault"
        else:
            problem = f"a probe after ready ({ready:.1f} s) ended {call.outcome}"
        if now() - began > scenario.recovery or call.kind == "invoked":
            return [Violation("I5", problem)]
        time.sleep(0.1)  # Another process: it can only be asked again.


def _counted(bench: Bench, before: Counters) -> list[Violation]:
    """An answer is counted after it is sent: the counters are given a moment to agree."""
    give_up = now() + 2.0
    while True:
        after = bench.metrics()
        found = invariants.engine_conserves(after, idle=True)
        if not bench.restarted:
            calls = bench.history.calls
            found += invariants.counters_agree(before, after, calls, bench.raw)
        if not found or now() > give_up:
            return found
        time.sleep(0.1)


def _left_over(bench: Bench, held: resources.Resources, growth_mb: float) -> list[Violation]:
    """The kernel and the service take a moment to close what clients have closed."""
    give_up = now() + SETTLE_SECONDS
    while True:
        found = resources.compare(held, resources.read(bench.pid), growth_mb)
        if not found or now() > give_up:
            return found
        time.sleep(0.1)


def _restore(bench: Bench) -> None:
    try:
        bench.restart()
    except (RuntimeError, OSError) as error:
        print(f"  the service does not come back: {error}", flush=True)


def _verdict(
    scenario: Scenario, observed: str, verdict: str, found: Sequence[Violation], began: float
) -> Verdict:
    return Verdict(
        scenario.id,
        scenario.injected,
        scenario.expected,
        observed,
        verdict,
        found,
        now() - began,
    )
