"""Quarantine: inputs that killed worker after worker are refused for a while. Pure: no lock, no
clock."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict

from batcher.request import Payload

SECONDS = 600.0
_MAX_FINGERPRINTS = 1024


class Quarantine:
    """Fingerprints of inputs that are refused for a while."""

    def __init__(self) -> None:
        self.until: OrderedDict[str, float] = OrderedDict()  # soonest first

    def add(self, fingerprint: str, now: float) -> None:
        self.until[fingerprint] = now + SECONDS
        self.until.move_to_end(fingerprint)
        if len(self.until) > _MAX_FINGERPRINTS:
            self.until.popitem(last=False)

    def holds(self, fingerprint: str | None, now: float) -> bool:
        until = None if fingerprint is None else self.until.get(fingerprint)
        return until is not None and now < until

    def __len__(self) -> int:
        return len(self.until)

    def release_expired(self, now: float) -> None:
        while self.until and next(iter(self.until.values())) <= now:
            self.until.popitem(last=False)


def fingerprint(payload: Payload) -> str | None:
    """A short hash that does not reveal the payload. The same for payloads that pickle the same, as
    equal texts and contiguous arrays do. None: it does not pickle, and so never reached a worker.
    """
    try:
        return hashlib.sha256(pickle.dumps(payload, protocol=5)).hexdigest()[:16]
    except Exception:  # whatever a payload of the user's own raises
        return None
