"""Poison: inputs that kill worker after worker. What is to blame for a lost worker, the inputs
aboard or the replica; and for how long such inputs are refused. Pure: no lock, no clock."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from batcher.errors import PoisonRequest
from batcher.request import LOSSES_OF_A_CULPRIT, Payload, Request, is_poison
from batcher.supervision.health import Replica

_log = logging.getLogger(__name__)
_SECONDS = 600.0
_MAX_FINGERPRINTS = 1024
_MAX_TIMEOUT_SCALE = 64.0
_MAX_CONDEMNED = 2  # in a row on one replica; more means that the replica is to blame


class PoisonDetector:
    def __init__(self) -> None:
        self.quarantine = Quarantine()
        self.hang_timeout_scale = 1.0  # for batches of several rows; grows when one of them hangs

    def refusal(self, fingerprints: Sequence[str | None], now: float) -> PoisonRequest | None:
        self.quarantine.release_expired(now)
        if any(self.quarantine.holds(each, now) for each in fingerprints):
            return PoisonRequest("this input has killed several workers: it is refused")
        return None

    def worker_lost(self, replica: Replica, size: int) -> None:
        """It was lost while running a batch of so many rows."""
        if replica.reason == "hang" and size > 1:
            # Perhaps the batch was only slow: more time for the next one tells the two apart.
            self.hang_timeout_scale = min(2 * self.hang_timeout_scale, _MAX_TIMEOUT_SCALE)

    def went_well(self, replica: Replica, size: int) -> None:
        """At least one row of a batch of so many."""
        replica.condemned = 0
        if size > 1:
            self.hang_timeout_scale = 1.0

    def is_to_blame(self, replica: Replica, workers_lost: int) -> bool:
        """Is a request that has lost so many workers poison? Not if several in a row were, and
        nothing went well between: then the replica is to blame."""
        return is_poison(workers_lost) and replica.condemned < _MAX_CONDEMNED

    def condemn(
        self, row: Sequence[Request], replica: Replica, waiting: Iterable[Request], now: float
    ) -> list[Request]:
        """Quarantines the input of this row. Returns the waiting requests with the same input.
        O(queue), once per poison."""
        replica.condemned += 1
        self.hang_timeout_scale = 1.0
        poison = fingerprint(row[0].payload)
        assert poison is not None, "it has been in a worker: this is a bug"
        self.quarantine.add(poison, now)
        _log.error(
            "an input was aboard when %d workers were lost, the last time alone; inputs with its"
            " fingerprint, %s, are refused for %.0f s",
            LOSSES_OF_A_CULPRIT,
            poison,
            _SECONDS,
        )
        return [each for each in waiting if fingerprint(each.payload) == poison]


class Quarantine:
    """Fingerprints of inputs that are refused for a while."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()  # soonest first

    def add(self, fingerprint: str, now: float) -> None:
        self._until[fingerprint] = now + _SECONDS
        self._until.move_to_end(fingerprint)
        if len(self._until) > _MAX_FINGERPRINTS:
            self._until.popitem(last=False)

    def holds(self, fingerprint: str | None, now: float) -> bool:
        until = None if fingerprint is None else self._until.get(fingerprint)
        return until is not None and now < until

    def __len__(self) -> int:
        return len(self._until)

    def release_expired(self, now: float) -> None:
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)


def fingerprint(payload: Payload) -> str | None:
    """A short hash that does not reveal the payload. The same for payloads that pickle the same, as
    equal texts and contiguous arrays do. None: it does not pickle, and so never reached a worker.
    """
    try:
        return hashlib.sha256(pickle.dumps(payload, protocol=5)).hexdigest()[:16]
    except Exception:  # whatever a payload of the user's own raises
        return None
