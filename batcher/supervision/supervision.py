"""Supervision: which replicas are up, when each runs a canary, how long a batch may take, and what
is to blame for a lost worker. Guarded by the collector's lock."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from batcher.errors import BatcherError, NotReady, PoisonRequest
from batcher.limits import Limits
from batcher.request import LOSSES_OF_A_CULPRIT, Request
from batcher.runner import RunnerInfo
from batcher.scheduling import dispatch
from batcher.scheduling.cost import CostModel
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.selection import Selection
from batcher.snapshot import ReplicaSnapshot, ReplicaState
from batcher.supervision.quarantine import SECONDS, Quarantine, fingerprint
from batcher.supervision.time_left import time_left

_log = logging.getLogger(__name__)
_RETRY_AFTER = 1.0  # seconds, while it is not known how long the model takes to load
_SLOW_INTERVAL = 2.0  # seconds between the canaries of a replica too slow to get other work
_FRESH_INTERVALS = 2.5  # canary intervals without a good run after which it is not ready any more
_TIMES_PREDICTED = 10.0
_TIMES_PROPORTIONAL = 2.0
_COLD = 300.0  # seconds that a batch may take before the first observation
_MAX_SCALE = 64.0
_MAX_CONDEMNED = 2  # in a row on one replica; more means that the replica is to blame


class Replica:
    """The state, the canaries and the restarts of one replica."""

    def __init__(self, index: int, model: ReplicaModel) -> None:
        self.index = index
        self.model = model
        self.state: ReplicaState = "starting"
        self.reason = ""  # why it was last lost, or did not start
        self.condemned = 0  # inputs found to be poison since a run of requests last went well
        self.canary_interval: float | None = None  # seconds; None: no canaries
        # When a canary must run. -inf: first of all, which also teaches the cost model the time of
        # the smallest batch; inf: none is needed.
        self.canary_due = math.inf
        self.restarts: Counter[str] = Counter()  # by reason
        self.info = RunnerInfo()
        self.retry_at = 0.0
        self._last_ok: float | None = None
        self._canary_at = -math.inf  # the last canary
        self._is_untested = True  # no run yet since it came up

    def came_up(self, info: RunnerInfo, now: float) -> None:
        self.state, self.info = "up", info
        self.model.came_up(info.profile, info.padding_free, now)
        self._last_ok = now  # its warm-up went well
        self._is_untested = True
        self.plan_canary()

    def retry_in(self, now: float) -> float:
        """Seconds until its next start; 0: none is planned, or it is starting."""
        return 0.0 if self.state == "up" else max(0.0, self.retry_at - now)

    def went_well(self, now: float) -> None:
        self._last_ok = now
        self._is_untested = False
        self.plan_canary()

    def canary_began(self, now: float) -> None:
        self._canary_at, self._is_untested = now, False
        self.plan_canary()

    def plan_canary(self) -> None:
        if self.canary_interval is None or self._last_ok is None:
            self.canary_due = math.inf
        elif self._is_untested:
            self.canary_due = -math.inf
        else:
            self.canary_due = max(self._last_ok, self._canary_at) + self.canary_interval

    def canary_due_if_slow(self) -> float:
        """So slow that it gets no other work."""
        if self.canary_due == math.inf or self._last_ok is None:
            return math.inf
        return min(self.canary_due, max(self._last_ok, self._canary_at) + _SLOW_INTERVAL)

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
            info=self.info,
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


class Supervision:
    def __init__(self, models: Sequence[ReplicaModel], limits: Limits) -> None:
        self.replicas = [Replica(index, model) for index, model in enumerate(models)]
        self.may_recover = False  # a replica is up, or is expected to be soon
        self.quarantine = Quarantine()
        self._hang_timeouts = HangTimeouts(limits)

    # What submit asks

    def fingerprints(self, requests: Sequence[Request]) -> Sequence[str | None]:
        """For refusal()."""
        return [fingerprint(each.payload) for each in requests]

    def refusal(
        self, fingerprints: Sequence[str | None], now: float
    ) -> NotReady | PoisonRequest | None:
        """None: the requests may come in."""
        if not self.may_recover:
            return self.not_ready(now)
        self.quarantine.release_expired(now)
        if any(self.quarantine.holds(each, now) for each in fingerprints):
            return PoisonRequest(
                "this input has killed several workers and is refused for some minutes"
            )
        return None

    def not_ready(self, now: float) -> NotReady:
        waits = [replica.retry_in(now) for replica in self.replicas]
        reason = next((replica.reason for replica in self.replicas if replica.reason), "")
        why = f"no worker is ready; the last one: {reason}" if reason else "no worker is ready"
        return NotReady(why, min((wait for wait in waits if wait), default=_RETRY_AFTER))

    # The life of a replica

    def came_up(self, replica: int, info: RunnerInfo, now: float) -> None:
        self.replicas[replica].came_up(info, now)
        self._update()

    def changed(self, replica: int, info: RunnerInfo) -> None:
        """What its runner reports has changed since it came up."""
        self.replicas[replica].info = info
        self.replicas[replica].model.padding_free = info.padding_free

    def went_down(self, replica: int, reason: str) -> bool:
        """False: it was down already, and the first reason stays."""
        lost = self.replicas[replica]
        if lost.state != "up":
            return False
        lost.state, lost.reason, lost.model.is_up = "restarting", reason, False
        lost.restarts[reason] += 1
        self._update()
        return True

    def waits(self, replica: int, until: float, reason: str, is_broken: bool) -> None:
        """It will be started again then."""
        waiting = self.replicas[replica]
        waiting.retry_at, waiting.reason = until, reason
        if is_broken:
            waiting.state = "broken"
        self._update()

    def _update(self) -> None:
        self.may_recover = any(each.state in ("up", "restarting") for each in self.replicas)

    def set_canary_interval(self, seconds: float) -> None:
        for replica in self.replicas:
            replica.canary_interval = seconds
            replica.plan_canary()

    def canary_due(self, replica: int) -> float:
        """See Replica.canary_due. Sooner where it is so slow that it gets no other work."""
        tested = self.replicas[replica]
        models = [each.model for each in self.replicas] if len(self.replicas) > 1 else ()
        is_slow = models and dispatch.is_slow(tested.model, models)
        return tested.canary_due_if_slow() if is_slow else tested.canary_due

    # Batches

    def hang_timeout(self, replica: int, selection: Selection, now: float) -> float:
        """Seconds after which such a batch is taken to hang."""
        return self._hang_timeouts.of(selection, self.replicas[replica].model.cost, now)

    def ended_well(self, replica: int, errors: Sequence[BatcherError | None], now: float) -> None:
        """A batch, or a canary (no rows), has run; these are the errors of its rows."""
        if errors and None not in errors:
            return
        self.replicas[replica].went_well(now)
        if errors:
            self.replicas[replica].condemned = 0
        if len(errors) > 1:
            self._hang_timeouts.reset()

    def worker_lost(self, replica: int, size: int) -> None:
        """While it was running a batch of so many rows."""
        if self.has_hung(replica):
            self._hang_timeouts.hung(size)

    def has_hung(self, replica: int) -> bool:
        """Is that what its worker was last lost by?"""
        return self.replicas[replica].reason == "hang"

    def is_poison(self, replica: int, workers_lost: int) -> bool:
        """Is a request that has lost so many workers poison? Not if several in a row were, and
        nothing went well between: then the replica is to blame."""
        is_suspect = workers_lost >= LOSSES_OF_A_CULPRIT
        return is_suspect and self.replicas[replica].condemned < _MAX_CONDEMNED

    def condemn(
        self, row: Sequence[Request], replica: int, waiting: Iterable[Request], now: float
    ) -> list[Request]:
        """Quarantines the input of this row. Returns the waiting requests with the same input.
        O(queue), once per poison."""
        self.replicas[replica].condemned += 1
        self._hang_timeouts.reset()
        poison = fingerprint(row[0].payload)
        assert poison is not None, "it has been in a worker: this is a bug"
        self.quarantine.add(poison, now)
        _log.error(
            "quarantining an input: %d workers died running it, the last one with it alone; inputs"
            " with its fingerprint %s are refused for %.0f s",
            LOSSES_OF_A_CULPRIT,
            poison,
            SECONDS,
        )
        return [each for each in waiting if fingerprint(each.payload) == poison]

    def __repr__(self) -> str:
        return f"<Supervision {', '.join(replica.state for replica in self.replicas)}>"


class HangTimeouts:
    def __init__(self, limits: Limits) -> None:
        self._minimum = limits.hang_after
        self._by_deadline = limits.hang_by_deadline
        self._scale = 1.0  # for batches of several rows; grows when one of them hangs

    def of(self, selection: Selection, cost: CostModel, now: float) -> float:
        """In seconds. O(batch) where deadlines count."""
        size, predicted = len(selection.taken), selection.predicted
        timeout = hang_timeout(cost, size, selection.tokens, predicted, self._minimum)
        if size > 1:
            timeout *= self._scale
        if self._by_deadline and size:
            timeout = max(timeout, time_left(selection, now))
        return timeout

    def hung(self, size: int) -> None:
        """A batch of so many rows. Perhaps it was only slow: more time for the next one of several
        rows tells the two apart."""
        if size > 1:
            self._scale = min(2 * self._scale, _MAX_SCALE)

    def reset(self) -> None:
        """One of several rows has run well, or the culprit has been found."""
        self._scale = 1.0


def hang_timeout(
    cost: CostModel, size: int, tokens: int, predicted: float, minimum: float
) -> float:
    """Seconds after which a batch is taken to hang; at least `minimum`.

    A batch larger than any before gets twice the time it would take if time grew with its tokens or
    its requests, whichever is more of them.
    """
    if not cost.observations:
        return max(minimum, _COLD)
    largest_size, largest_tokens, seconds = cost.largest
    grown = max(1.0, size / max(1, largest_size), tokens / max(1, largest_tokens))
    return max(minimum, _TIMES_PREDICTED * predicted, _TIMES_PROPORTIONAL * seconds * grown)
