"""`python -m service` whose supervisor calls the roll often, and waits for answers but shortly."""

from __future__ import annotations

import sys

from service import main as launch
from service.processes import liveness as rollcall

BOUND = 3.0  # seconds; a process that is merely busy must answer in time on a slow machine too

if __name__ == "__main__":
    rollcall.INTERVAL, rollcall.BOUND = 0.25, BOUND
    sys.exit(launch.main(sys.argv[1:]))
