"""The checker checked: services that are broken on purpose, each of which must be caught."""

import time
from dataclasses import dataclass

from loadtests.chaos.bench import Bench
from loadtests.chaos.faulty_service import LIES
from loadtests.chaos.judge import Verdict, judge
from loadtests.chaos.scenario import REQUESTS, Scenario
from loadtests.reports.finding import Finding, observed
from loadtests.servers.launch import Variant

# The invariant that each lie breaks; an honest service must break none.
CAUGHT_BY = {
    "honest": "",
    "spared": "I7",
    "swaps": "I2",
    "forgets": "I1",
    "hangs-up": "I1",
    "blames": "I4",
    "refuses-rudely": "I4",
    "mumbles": "I4",
    "miscounts": "I3",
    "counts-twice": "I3",
    "leaks-descriptors": "I6",
    "leaks-memory": "I6",
    "leaves-zombies": "I6",
    "poses": "I5",
    "slows-down": "I5",
}
RATE = 100.0
SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """One lie and what the checker said."""

    lie: str
    does: str
    broken: str  # The invariant that must be named; empty for the honest one.
    verdict: Verdict

    @property
    def caught(self) -> bool:
        named = {violation.invariant for violation in self.verdict.violations}
        return self.broken in named if self.broken else self.verdict.verdict == "survived"


def controls() -> list[Control]:
    """All of them, each against a service of its own."""
    return [control(lie) for lie in LIES]


def control(lie: str) -> Control:
    """One of them."""
    bench, does = Bench(), LIES[lie]
    injects = {"a drill": 1} if lie == "spared" else REQUESTS
    scenario = Scenario(lie, does, "the checker names it", _lie, recovery=1.0, injects=injects)
    try:
        bench.start(Variant(lie, "loadtests.chaos.faulty_service", ("{port}", lie)))
        found = Control(lie, does, CAUGHT_BY[lie], judge(bench, scenario, restore=False))
    finally:
        bench.stop()
    said = "caught" if found.caught else "NOT CAUGHT"
    print(f"control {lie}: {said} ({found.verdict.seconds:.1f} s)", flush=True)
    return found


def _lie(bench: Bench) -> Finding:
    with bench.load(RATE, texts=bench.texts("lie"), timeout=0.5):
        time.sleep(SECONDS)
    return observed(True, str(bench.history))
