"""Payloads that have killed worker after worker: refused for a while, by fingerprint.

Knows no lock and no clock: the collector brings those.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict

from batcher.request import Payload

_SECONDS = 600.0
_MOST = 1024  # fingerprints kept


def fingerprint(payload: Payload) -> str | None:
    """Short, and telling nobody what was in it. The same for payloads that pickle the same, as
    equal texts and contiguous arrays do. None: it does not pickle, and so never reached a worker.
    """
    try:
        return hashlib.sha256(pickle.dumps(payload, protocol=5)).hexdigest()[:16]
    except Exception:  # whatever a payload of the user's own raises
        return None


class Quarantine:
    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()  # soonest first

    def add(self, print_: str, now: float) -> None:
        self._until[print_] = now + _SECONDS
        self._until.move_to_end(print_)
        if len(self._until) > _MOST:
            self._until.popitem(last=False)

    def holds(self, print_: str | None, now: float) -> bool:
        until = None if print_ is None else self._until.get(print_)
        return until is not None and now < until

    def __len__(self) -> int:
        return len(self._until)

    def let_go(self, now: float) -> None:
        """Forgets those whose time is up."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
