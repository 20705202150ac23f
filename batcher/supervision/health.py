"""Replica: the state, the canaries and the restarts of one replica. Pure: no lock, no clock."""

from __future__ import annotations

import math
from collections import Counter

from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import ReplicaModel
from batcher.snapshot import ReplicaSnapshot, ReplicaState

_SLOW_INTERVAL = 2.0  # seconds between the canaries of a replica too slow to get other work
_FRESH_INTERVALS = 2.5  # canary intervals without a good run after which it is not ready any more


class Replica:
    def __init__(self, index: int, model: ReplicaModel) -> None:
        self.index = index
        self.model = model
        self.state: ReplicaState = "starting"
        self.reason = ""  # why it was last lost, or did not start
        self.condemned = 0  # inputs found to be poison since a run of requests last went well
        self.canary_interval: float | None = None  # seconds; None: no canaries
        self.restarts: Counter[str] = Counter()  # by reason
        self._last_ok: float | None = None
        self._canary_at = -math.inf  # the last canary
        self._is_untested = True  # no run yet since it came up
        self._retry_at = 0.0
        self._info = RunnerInfo()

    @property
    def is_up(self) -> bool:
        return self.state == "up"

    @property
    def may_recover(self) -> bool:
        """Up, or expected to be so soon that requests wait for it."""
        return self.state in ("up", "restarting")

    def came_up(self, info: RunnerInfo, now: float) -> None:
        self.state, self._info = "up", info
        self.model.came_up(info.profile, info.padding_free)
        self._last_ok = now  # its warm-up went well
        self._is_untested = True

    def changed(self, info: RunnerInfo) -> None:
        """What its runner reports has changed since it came up."""
        self._info = info
        self.model.padding_free = info.padding_free

    def went_down(self, reason: str) -> None:
        self.state, self.reason = "restarting", reason
        self.model.is_up = False
        self.restarts[reason] += 1

    def waits(self, until: float, reason: str, is_broken: bool) -> None:
        self._retry_at, self.reason = until, reason
        if is_broken:
            self.state = "broken"

    def retry_in(self, now: float) -> float:
        """Seconds until its next start; 0: none is planned, or it is starting."""
        return 0.0 if self.is_up else max(0.0, self._retry_at - now)

    def went_well(self, now: float) -> None:
        self._last_ok = now
        self._is_untested = False

    def canary_began(self, now: float) -> None:
        self._canary_at, self._is_untested = now, False

    def canary_due(self, is_slow: bool) -> float:
        """When a canary must run. -inf: first of all, which also teaches the cost model the time of
        the smallest batch; inf: none is needed. `is_slow`: so slow that it gets no other work."""
        interval = self.canary_interval
        if interval is None or self._last_ok is None:
            return math.inf
        if self._is_untested:
            return -math.inf
        if is_slow:
            interval = min(interval, _SLOW_INTERVAL)
        return max(self._last_ok, self._canary_at) + interval

    def snapshot(self, now: float) -> ReplicaSnapshot:
        age = None if self._last_ok is None else now - self._last_ok
        interval = self.canary_interval
        model = self.model
        size, tokens = model.memory_ceiling.size, model.memory_ceiling.tokens
        return ReplicaSnapshot(
            index=self.index,
            state=self.state,
            busy=model.batches > 0,
            busy_seconds=model.utilisation.seconds(now),
            busy_ratio=model.utilisation.share(now),
            info=self._info,
            restarts=dict(self.restarts),
            reason=self.reason,
            retry_in=self.retry_in(now),
            last_ok_age=age,
            fresh=interval is None or (age is not None and age <= _FRESH_INTERVALS * interval),
            safe_size=None if size == math.inf else int(size),
            safe_tokens=None if tokens == math.inf else int(tokens),
            max_batch_tokens=model.max_batch_tokens,
            cost=model.cost.weights,
        )
