"""Signals: draining, impatience, and what is left behind."""

from loadtests.chaos.scenario import NotRunnable, Scenario

SCENARIOS: tuple[Scenario | NotRunnable, ...] = ()
