"""Replicas: all of them, and what is to be hoped for. Guarded by the collector's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batcher.errors import NotReady
from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import Device
from batcher.snapshot import ReplicaSnapshot
from batcher.supervision.replica import Replica

_RETRY = 1.0  # seconds; nobody knows how long a model takes to load


class Replicas:
    def __init__(self, devices: Sequence[Device]) -> None:
        self._all = [Replica(index, device) for index, device in enumerate(devices)]
        self.is_hopeful = False  # there is one that is up or soon will be

    def came_up(self, replica: int, info: RunnerInfo, now: float) -> None:
        self._all[replica].came_up(info, now)
        self._look()

    def changed(self, replica: int, info: RunnerInfo) -> None:
        self._all[replica].changed(info)

    def went_down(self, replica: int, reason: str) -> bool:
        """False: it was down already, and why is known."""
        if not self._all[replica].up:
            return False
        self._all[replica].went_down(reason)
        self._look()
        return True

    def waits(self, replica: int, until: float, reason: str, is_broken: bool) -> None:
        self._all[replica].waits(until, reason, is_broken)
        self._look()

    def not_ready(self, now: float) -> NotReady:
        waits = [replica.retry_in(now) for replica in self._all]
        reason = next((replica.reason for replica in self._all if replica.reason), "")
        why = f"no worker is ready; the last one: {reason}" if reason else "no worker is ready"
        return NotReady(why, min((wait for wait in waits if wait), default=_RETRY))

    def snapshot(self, now: float) -> tuple[ReplicaSnapshot, ...]:
        return tuple(replica.snapshot(now) for replica in self._all)

    def __getitem__(self, replica: int) -> Replica:
        return self._all[replica]

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._all)

    def __repr__(self) -> str:
        return f"<Replicas {', '.join(replica.state for replica in self._all)}>"

    def _look(self) -> None:
        self.is_hopeful = any(replica.is_hopeful for replica in self._all)
