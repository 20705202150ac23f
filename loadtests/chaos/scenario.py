"""One fault: what is done to the service, what must come of it, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadtests.chaos.bench import Bench
from loadtests.reports.finding import Finding

REQUESTS: Mapping[str, int] = {"request": 1}  # Where what is sent is the fault.


@dataclass(frozen=True, slots=True)
class Allowed:
    """What this fault may cost a client. All else is a violation."""

    failing: Callable[[str], bool] = lambda text: False  # Texts whose own answer may be 500.
    unknown: bool = False  # Connections may end without an answer.
    restarts: bool = False  # The service itself may end: its counters start again.
    growth_mb: float = 24.0  # Of resident memory, a process.


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` injects the fault and looks at the effect. Before it the service is ready and idle.

    After it the bench checks, without being asked: that the faults of `injects` happened, by the
    word of their injectors; every request of the bench's history, the counters, that the service is
    alive within 1 s, ready and right within `recovery` seconds, and that no process, descriptor,
    thread or memory is left over.
    """

    id: str
    injected: str
    expected: str
    run: Callable[[Bench], Finding]
    env: Mapping[str, str] = field(default_factory=dict)  # On top of SIMULATED; equal ones share.
    allowed: Allowed = Allowed()
    recovery: float = 10.0
    real: bool = False  # Makes sense on the real model too.
    injects: Mapping[str, int] = field(default_factory=lambda: REQUESTS)  # At least so often each.
    timed: bool = False  # The verdict hangs on the machine's speed: not for CI.
    drill: str = ""  # What sabotage.py does to the service's process before it starts.


class NotHere(Exception):
    """Raised by `run` where this machine lacks something; the text is the reason."""


@dataclass(frozen=True, slots=True)
class NotRunnable:
    """A fault that this command cannot inject, and why not."""

    id: str
    injected: str
    reason: str
