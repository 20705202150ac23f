"""All scenarios, in the order in which they run."""

from loadtests.chaos import bad_input, durable, host, load, network, shutdown, worker
from loadtests.chaos.scenario import NotRunnable, Scenario

TABLE: tuple[Scenario | NotRunnable, ...] = (
    *load.SCENARIOS,
    *bad_input.SCENARIOS,
    *network.SCENARIOS,
    *worker.SCENARIOS,
    *host.SCENARIOS,
    *shutdown.SCENARIOS,
    *durable.SCENARIOS,
)
