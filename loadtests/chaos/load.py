"""More work than there is room for, or none at all."""

from loadtests.chaos.scenario import NotRunnable, Scenario

SCENARIOS: tuple[Scenario | NotRunnable, ...] = ()
