"""Suspicion: what is to blame when workers are lost, the inputs or the replica, and who is refused
for it. Guarded by the collector's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from batcher.errors import PoisonRequest
from batcher.request import Request
from batcher.supervision import recovery
from batcher.supervision.quarantine import Quarantine, fingerprint
from batcher.supervision.replica import Replica

_log = logging.getLogger(__name__)
_MAX_LENIENCY = 64.0
_MOST_CONDEMNED = 2  # in a row, with nothing between that went well


class Suspicion:
    def __init__(self) -> None:
        self._quarantine = Quarantine()
        self.leniency = 1.0  # times the patience: batches have hung, and nobody knows why

    def prints(self, requests: Sequence[Request]) -> Sequence[str | None]:
        """For refusal(): taken outside the lock. Hardly ever is anything in quarantine, and only
        then do requests pay for it."""
        return [fingerprint(each.payload) for each in requests] if self._quarantine else ()

    def refusal(self, prints: Sequence[str | None], now: float) -> PoisonRequest | None:
        self._quarantine.let_go(now)
        if any(self._quarantine.holds(each, now) for each in prints):
            return PoisonRequest("this input has killed several workers: it is refused")
        return None

    def lost(self, replica: Replica, size: int) -> None:
        """A worker, with a batch of so many rows."""
        if replica.reason == "hang" and size > 1:
            # Perhaps it is only slow: the next one is given more time, to be told apart.
            self.leniency = min(2 * self.leniency, _MAX_LENIENCY)

    def went_well(self, replica: Replica, size: int) -> None:
        """At least one row of a batch."""
        replica.condemned = 0
        if size > 1:
            self.leniency = 1.0

    def condemns(self, replica: Replica, losses: int) -> bool:
        """Several in a row and nothing that went well: that is the replica, not the inputs."""
        return recovery.is_poison(losses) and replica.condemned < _MOST_CONDEMNED

    def condemn(
        self, row: Sequence[Request], replica: Replica, waiting: Iterable[Request], now: float
    ) -> list[Request]:
        """Those who wait and are like the row, which are condemned with it. O(queue), once per
        poison."""
        replica.condemned += 1
        self.leniency = 1.0
        print_ = fingerprint(row[0].payload)
        assert print_ is not None, "it has been in a worker: this is a bug"
        self._quarantine.add(print_, now)
        _log.error(
            "an input was aboard when %d workers were lost, the last time alone; inputs with its"
            " fingerprint, %s, are refused for a while",
            recovery.LOSSES_OF_A_CULPRIT,
            print_,
        )
        return [each for each in waiting if fingerprint(each.payload) == print_]
