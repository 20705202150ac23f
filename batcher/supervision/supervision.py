"""Supervision: which replicas are up, how long a batch may take, and what is to blame for a lost
worker. Guarded by the collector's lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batcher.errors import BatcherError, NotReady, PoisonRequest
from batcher.request import Request
from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import ReplicaModel
from batcher.snapshot import ReplicaSnapshot
from batcher.supervision import recovery
from batcher.supervision.health import Replica
from batcher.supervision.quarantine import PoisonDetector, fingerprint

_RETRY_AFTER = 1.0  # seconds, while it is not known how long the model takes to load


class Supervision:
    def __init__(self, models: Sequence[ReplicaModel], hang_timeout_min: float) -> None:
        self._replicas = [Replica(index, model) for index, model in enumerate(models)]
        self._poison = PoisonDetector()
        self._hang_timeout_min = hang_timeout_min
        self.may_recover = False  # a replica is up, or is expected to be soon

    # What submit asks

    def fingerprints(self, requests: Sequence[Request]) -> Sequence[str | None]:
        """For refusal(). Empty while nothing is in quarantine, so that requests cost nothing.

        Safe without the lock: at worst it misses what is quarantined at this very moment.
        """
        return [fingerprint(each.payload) for each in requests] if self._poison.quarantine else ()

    def refusal(
        self, fingerprints: Sequence[str | None], now: float
    ) -> NotReady | PoisonRequest | None:
        """None: the requests may come in."""
        if not self.may_recover:
            return self.not_ready(now)
        return self._poison.refusal(fingerprints, now) if fingerprints else None

    def not_ready(self, now: float) -> NotReady:
        waits = [replica.retry_in(now) for replica in self._replicas]
        reason = next((replica.reason for replica in self._replicas if replica.reason), "")
        why = f"no worker is ready; the last one: {reason}" if reason else "no worker is ready"
        return NotReady(why, min((wait for wait in waits if wait), default=_RETRY_AFTER))

    # The life of a replica

    def is_up(self, replica: int) -> bool:
        return self._replicas[replica].is_up

    def came_up(self, replica: int, info: RunnerInfo, now: float) -> None:
        self._replicas[replica].came_up(info, now)
        self._update()

    def changed(self, replica: int, info: RunnerInfo) -> None:
        self._replicas[replica].changed(info)

    def went_down(self, replica: int, reason: str) -> bool:
        """False: it was down already, and the first reason stays."""
        if not self._replicas[replica].is_up:
            return False
        self._replicas[replica].went_down(reason)
        self._update()
        return True

    def waits(self, replica: int, until: float, reason: str, is_broken: bool) -> None:
        """It will be started again then."""
        self._replicas[replica].waits(until, reason, is_broken)
        self._update()

    # Canaries

    def set_canary_interval(self, seconds: float) -> None:
        for replica in self._replicas:
            replica.canary_interval = seconds

    def canary_due(self, replica: int, is_slow: bool) -> float:
        return self._replicas[replica].canary_due(is_slow)

    def canary_began(self, replica: int, now: float) -> None:
        self._replicas[replica].canary_began(now)

    # Batches

    def hang_timeout(self, replica: int, size: int, tokens: int) -> float:
        """Seconds after which such a batch is taken to hang."""
        cost = self._replicas[replica].model.cost
        timeout = recovery.hang_timeout(cost, size, tokens, self._hang_timeout_min)
        return timeout * self._poison.hang_timeout_scale if size > 1 else timeout

    def ended_well(self, replica: int, errors: Sequence[BatcherError | None], now: float) -> None:
        """A batch, or a canary (no rows), has run; these are the errors of its rows."""
        if None in errors or not errors:
            self._replicas[replica].went_well(now)
        if None in errors:
            self._poison.went_well(self._replicas[replica], len(errors))

    def worker_lost(self, replica: int, size: int) -> None:
        """While it was running a batch of so many rows."""
        self._poison.worker_lost(self._replicas[replica], size)

    def is_poison(self, replica: int, workers_lost: int) -> bool:
        return self._poison.is_to_blame(self._replicas[replica], workers_lost)

    def condemn(
        self, row: Sequence[Request], replica: int, waiting: Iterable[Request], now: float
    ) -> list[Request]:
        """Quarantines the input of this row; returns the waiting requests with the same input."""
        return self._poison.condemn(row, self._replicas[replica], waiting, now)

    def snapshot(self, now: float) -> tuple[ReplicaSnapshot, ...]:
        return tuple(replica.snapshot(now) for replica in self._replicas)

    def __repr__(self) -> str:
        return f"<Supervision {', '.join(replica.state for replica in self._replicas)}>"

    def _update(self) -> None:
        self.may_recover = any(replica.may_recover for replica in self._replicas)
