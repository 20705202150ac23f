"""`python -m service` whose supervisor pings often and waits only briefly for answers."""

from __future__ import annotations

import sys

from service import main as launch
from service.processes import liveness

BOUND = 3.0  # seconds; a process that is merely busy must answer in time on a slow machine too

if __name__ == "__main__":
    liveness.INTERVAL, liveness.BOUND = 0.25, BOUND
    sys.exit(launch.main(sys.argv[1:]))
