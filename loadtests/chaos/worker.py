"""Workers that die, hang, lie or run out of memory."""

from loadtests.chaos.scenario import NotRunnable, Scenario

SCENARIOS: tuple[Scenario | NotRunnable, ...] = ()
