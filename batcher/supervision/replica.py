"""Replica: the life of one, as the collector knows it. Guarded by the collector's lock."""

from __future__ import annotations

from collections import Counter

from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import Device
from batcher.snapshot import ReplicaSnapshot, ReplicaState

_SLOW_INTERVAL = 2.0  # seconds between the canaries of a slow one
_INTERVALS = 2.5  # without a run that went well, a replica is no longer believed to be


class Replica:
    def __init__(self, index: int, device: Device) -> None:
        self.index = index
        self.device = device
        self.state: ReplicaState = "starting"
        self.last_ok: float | None = None
        self.reason = ""
        self.canary_interval: float | None = None  # seconds; None: no canaries
        self.condemned = 0  # requests found to be poison since a run of requests last went well
        self._tried_at = float("-inf")  # the last canary
        self._is_untried = True  # no run yet in this life
        self._retry_at = 0.0
        self._info = RunnerInfo()
        self.restarts: Counter[str] = Counter()

    @property
    def up(self) -> bool:
        return self.state == "up"

    @property
    def is_hopeful(self) -> bool:
        """Up, or so soon that it is worth waiting for."""
        return self.state in ("up", "restarting")

    def came_up(self, info: RunnerInfo, now: float) -> None:
        self.state, self._info = "up", info
        self.device.came_up(info.profile, info.padding_free)
        self.last_ok = now  # its warm-up did
        self._is_untried = True

    def changed(self, info: RunnerInfo) -> None:
        """What its runner reports has changed since it came up."""
        self._info = info
        self.device.padding_free = info.padding_free

    def went_well(self, now: float) -> None:
        self.last_ok = now
        self._is_untried = False

    def is_tried(self, now: float) -> None:
        """By a canary, whatever comes of it."""
        self._tried_at, self._is_untried = now, False

    def went_down(self, reason: str) -> None:
        self.state, self.reason = "restarting", reason
        self.device.is_up = False
        self.restarts[reason] += 1

    def waits(self, until: float, reason: str, is_broken: bool) -> None:
        self._retry_at, self.reason = until, reason
        if is_broken:
            self.state = "broken"

    def retry_in(self, now: float) -> float:
        """Seconds until it is started again; 0: that is not planned, or under way."""
        return 0.0 if self.up else max(0.0, self._retry_at - now)

    @property
    def canary_due(self) -> float | None:
        """When a run must be made only to see it succeed. -inf: first of all, which also teaches
        the cost model what a run takes at the least."""
        if self.canary_interval is None or self.last_ok is None:
            return None
        if self._is_untried:
            return float("-inf")
        return max(self.last_ok, self._tried_at) + self.canary_interval

    @property
    def slow_canary_due(self) -> float | None:
        """The same, of one that is so slow that it gets no other work."""
        due = self.canary_due
        return due and min(due, max(self.last_ok or 0.0, self._tried_at) + _SLOW_INTERVAL)

    def snapshot(self, now: float) -> ReplicaSnapshot:
        age = None if self.last_ok is None else now - self.last_ok
        interval = self.canary_interval
        device = self.device
        size, tokens = device.ceiling.size, device.ceiling.tokens
        return ReplicaSnapshot(
            index=self.index,
            state=self.state,
            busy=device.batches > 0,
            busy_seconds=device.busy.seconds(now),
            busy_ratio=device.busy.share(now),
            info=self._info,
            restarts=dict(self.restarts),
            reason=self.reason,
            retry_in=self.retry_in(now),
            last_ok_age=age,
            fresh=interval is None or (age is not None and age <= _INTERVALS * interval),
            safe_size=None if size == float("inf") else int(size),
            safe_tokens=None if tokens == float("inf") else int(tokens),
            max_batch_tokens=device.max_batch_tokens,
            cost=device.cost.weights,
        )
