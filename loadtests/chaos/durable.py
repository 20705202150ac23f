"""Jobs that outlive the process: the service has none."""

from loadtests.chaos.scenario import NotRunnable, Scenario

SCENARIOS: tuple[Scenario | NotRunnable, ...] = ()
