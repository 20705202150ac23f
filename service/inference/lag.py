"""Lag: how long an answer takes from the end of its batch until it is written. Deadlines are the
clients', so this comes off what the engine is given."""

from __future__ import annotations

from batcher import BatchReport

_FORGETTING = 0.99  # with each answer: about the most of the last hundred counts
_MOST = 0.1  # seconds; more was a machine that stood still
_SPARE = 1.5  # times: requests are read as late as answers are written
_SHARE = 0.1  # of a timeout, at the most


class Lag:
    def __init__(self) -> None:
        self.seconds = 0.0

    def observe(self, batch: BatchReport, now: float) -> None:
        """An answer from that batch is about to be written."""
        if not batch.size:  # from memory
            return
        seconds = min(_MOST, now - batch.closed - batch.inference)
        self.seconds = max(seconds, self.seconds * _FORGETTING)

    def off(self, timeout: float) -> float:
        """What the engine has of a client's timeout; both in seconds."""
        return timeout - min(_SPARE * self.seconds, _SHARE * timeout)

    def __repr__(self) -> str:
        return f"<Lag {self.seconds * 1e3:.1f} ms>"
