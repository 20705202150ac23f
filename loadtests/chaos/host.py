"""The machine and the HTTP process: no descriptors, no CPU, no port, a clock that jumps."""

from loadtests.chaos.scenario import NotRunnable, Scenario

SCENARIOS: tuple[Scenario | NotRunnable, ...] = ()
