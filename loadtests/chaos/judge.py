"""Runs one scenario and checks what must hold after any: the verdict is both."""

import math
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

PROBES = 5
SLOWER_SECONDS = 0.01  # That probes may be beside the ratio: others use the machine too.


@dataclass(frozen=True, slots=True)
class Budget:
    """What a service has to be well again after a fault. Seconds, but for `slower`."""

    live: float = 1.0  # For an answer of /health/live.
    counted: float = 2.0  # For the counters to agree: an answer is counted after it is sent.
    settle: float = 3.0  # For closed connections and replaced workers to be gone.
    recovery: float = 1.0  # Of the scenario's own budget, so many times.
    slower: float = 1.1  # That a lone request may be than before, by ratio.


STRICT = Budget()
# A machine of any speed, which does other things beside: how fast the service is, is not asked.
PATIENT = Budget(live=10.0, counted=10.0, settle=10.0, recovery=3.0, slower=math.inf)


@dataclass(frozen=True, slots=True)
class Verdict:
    id: str
    injected: str
    expected: str
    observed: str
    verdict: str  # survived, FAILED, not runnable
    timed: bool = False
    violations: Sequence[Violation] = ()
    seconds: float = 0.0


def judge(
    bench: Bench, scenario: Scenario, restore: bool = True, budget: Budget = STRICT
) -> Verdict:
    """Never raises for what the service does: that is in the verdict.

    `restore`: after a failure the next scenario gets new processes.
    """
    began = now()
    try:
        survived, observed, found = _run(bench, scenario, budget)
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


def _run(bench: Bench, scenario: Scenario, budget: Budget) -> tuple[bool, str, list[Violation]]:
    bench.begin()
    before, held, speed = bench.metrics(), resources.read(bench.pid), bench.speed
    finding = scenario.run(bench)
    bench.injections.acknowledge("request", len(bench.history.calls) + bench.raw)
    injected = bench.injections.counts()
    if scenario.allowed.restarts and not bench.alive():
        bench.restart()
    bench.check_alive()
    found = invariants.injected(scenario.injects, injected)
    found += _recovered(bench, scenario.recovery * budget.recovery, speed, budget)
    calls, allowed = bench.history.calls, scenario.allowed
    found += invariants.one_outcome(calls, allowed)
    found += invariants.own_answers(calls, bench.reference.answer, bench.reference.tolerance)
    found += invariants.policy(calls, allowed)
    found += _counted(bench, before, budget.counted)
    if not bench.restarted:
        found += _left_over(bench, held, allowed.growth_mb, budget.settle)
    return bool(finding.ok), finding.what, found


def _recovered(bench: Bench, seconds: float, speed: float, budget: Budget) -> list[Violation]:
    began = now()
    try:
        alive = bench.get("/health/live", budget.live)[0] == 200
    except OSError:
        alive = False
    if not alive:
        return [Violation("I5", f"/health/live did not answer 200 within {budget.live:g} s")]
    try:
        bench.wait_until("ready", bench.is_ready, seconds)
    except TimeoutError as error:
        return [Violation("I5", str(error))]
    ready = now() - began
    limit = speed * budget.slower + SLOWER_SECONDS
    # The first probes after a fault may still meet what it left behind: within the budget.
    while True:
        timeout = max(1.0, seconds - (now() - began))
        call = bench.post(timeout=timeout)
        if call.kind == "ok":
            taken = bench.measure_speed(PROBES)
            if taken <= limit:
                return []
            problem = f"probes take {taken * 1e3:.1f} ms, {speed * 1e3:.1f} before the fault"
        else:
            problem = f"a probe after ready ({ready:.1f} s) ended {call.outcome}"
        if now() - began > seconds or call.kind == "invoked":
            return [Violation("I5", problem)]
        time.sleep(0.1)  # Another process: it can only be asked again.


def _counted(bench: Bench, before: Counters, seconds: float) -> list[Violation]:
    """The counters are given a moment to agree."""
    give_up = now() + seconds
    while True:
        after = bench.metrics()
        found = invariants.engine_conserves(after, idle=True)
        if not bench.restarted:
            calls = bench.history.calls
            found += invariants.counters_agree(before, after, calls, bench.raw)
        if not found or now() > give_up:
            return found
        time.sleep(0.1)


def _left_over(
    bench: Bench, held: resources.Resources, growth_mb: float, seconds: float
) -> list[Violation]:
    """The kernel and the service take a moment to close what clients have closed."""
    give_up = now() + seconds
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
        scenario.timed,
        found,
        now() - began,
    )
