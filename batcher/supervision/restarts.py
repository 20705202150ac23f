"""When a process that died is started again, and when it is given up. Pure: time is handed in."""

from __future__ import annotations

from batcher.request import LOSSES_OF_A_CULPRIT

# Seconds before each further start in a row.
_PROCESS_DELAYS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
# The first ones at once: one poisonous input kills so many workers before it is found.
_WORKER_DELAYS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_BROKEN_AFTER = 3  # starts in a row: then the next one is not expected to help
_STABLE_AFTER = 10.0  # seconds up: a later death has nothing to do with the start
_MAX_FAILED_STARTS = 5  # in a row


class WorkerRestarts:
    """Backs off until a run of requests goes well. Never gives up."""

    def __init__(self) -> None:
        self.attempts = 0  # since then; a run that goes well sets it to 0

    @property
    def is_broken(self) -> bool:
        return self.attempts >= _BROKEN_AFTER

    def next_delay(self) -> float:
        """Seconds to wait before the next start, which this counts."""
        delay = _WORKER_DELAYS[min(self.attempts, len(_WORKER_DELAYS) - 1)]
        self.attempts += 1
        return delay

    def poison_found(self) -> None:
        """The input was to blame for the last deaths, not the worker."""
        self.attempts = max(0, self.attempts - LOSSES_OF_A_CULPRIT)

    def first_start_failed(self) -> None:
        """Its cause may take a moment to go away: the next start waits."""
        self.attempts = 2


class Restarts:
    """Of a process of the service: gives up after several starts that never came up."""

    def __init__(self) -> None:
        self._up_since: float | None = None
        self._quick = 0  # deaths in a row, each before it came up or soon after
        self._failed_starts = 0  # in a row

    def came_up(self, now: float) -> None:
        self._up_since = now
        self._failed_starts = 0

    def died(self, now: float) -> float | None:
        """Seconds to wait before it is started again; None: no more."""
        if self._up_since is None:
            self._failed_starts += 1
            self._quick += 1
        elif now - self._up_since < _STABLE_AFTER:
            self._quick += 1
        else:
            self._quick = 0
        self._up_since = None
        if self._failed_starts >= _MAX_FAILED_STARTS:
            return None
        return _PROCESS_DELAYS[min(max(0, self._quick - 1), len(_PROCESS_DELAYS) - 1)]
