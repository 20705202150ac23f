"""Schedule: what waits, a model of each replica, and every decision about what runs where and when.
Pure: no lock, no clock, no I/O.

The collector drives it with threads and real time, the simulator with a heap and virtual time: the
same calls at the same times form the same batches.

A free replica takes everything that waits, up to the limits, at once. Under Poisson arrivals that
is within 0.65 % of the best control limit on mean latency, so max_wait is 0 unless the user sets
it; it counts from the arrival of the oldest request. (Which requests go in a batch: selection.
Which replica takes how many of them: dispatch.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from batcher.errors import BatcherError
from batcher.limits import Limits
from batcher.request import CONTINUED, FIRST_BULK, CloseReason, Request
from batcher.scheduling import admission, dispatch
from batcher.scheduling.arrivals import Arrivals, Regroup
from batcher.scheduling.pending import Pending
from batcher.scheduling.replica_model import ReplicaModel
from batcher.scheduling.selection import Selection, is_full, select

NOW = -math.inf
_LEARNING_RATE = 0.1  # the weight of the last batch
# A thread that waits for the interpreter's lock cuts its batch late: so many seconds are allowed
# for that, and at most such a share of the batch that runs.
_CUT_DELAY, _MAX_CUT_DELAY = 0.005, 0.25
_PESSIMISM = 2.0  # times the predicted time
_MAX_EARLY = 0.5  # of a batch: cut earlier, the next one misses more requests than it gains time


class Schedule:
    def __init__(self, limits: Limits, replicas: int = 1) -> None:
        self.limits = limits
        self.pending = Pending(limits.share_equal)
        self.replicas = [ReplicaModel(limits) for _ in range(replicas)]
        self.handoff = 0.0  # seconds of a batch beside its time in the runner
        # May new work begin? Asked before each batch, but for what was put back or continued: see
        # stages/. None: always.
        self.may_begin: Callable[[], bool] | None = None
        self._regroup = Regroup()
        self._arrivals = Arrivals()

    # Into the queue and out of it

    def admit(self, requests: Sequence[Request], now: float) -> BatcherError | None:
        """Queues all of them and returns None, or returns why not and queues none."""
        refusal = self.refusal(requests, now)
        if refusal is None:
            for request in requests:
                self.pending.add(request)
            self._regroup.arrived(now, len(requests))
        return refusal

    def refusal(self, requests: Sequence[Request], now: float) -> BatcherError | None:
        """Why these may not be queued; None: they may, all of them."""
        if requests[0].priority == CONTINUED:
            return None
        is_bulk = requests[0].priority >= FIRST_BULK
        self._arrivals.counts[is_bulk] += len(requests)
        up: Sequence[ReplicaModel] = self.replicas
        if len(up) > 1 or not up[0].is_up:
            up = dispatch.dependable(up)
        if up and not is_bulk and self._is_far_from_full(requests, up, now):
            return None
        return self._refusal(requests, up, now)

    def refusal_behind(
        self, requests: Sequence[Request], ahead: int, now: float
    ) -> BatcherError | None:
        """As refusal(), for requests that will come once `ahead` others have come. Changes
        nothing."""
        return self._refusal(requests, dispatch.dependable(self.replicas), now, ahead)

    def _refusal(
        self, requests: Sequence[Request], up: Sequence[ReplicaModel], now: float, to_come: int = 0
    ) -> BatcherError | None:
        return admission.refusal(
            self.pending,
            requests,
            self.limits,
            self.replicas,
            up,
            now,
            self.handoff,
            self._arrivals,
            to_come,
        )

    def _is_far_from_full(
        self, requests: Sequence[Request], up: Sequence[ReplicaModel], now: float
    ) -> bool:
        """Is there room for any caller, and time even behind the whole queue, in batches twice as
        slow as predicted? For most there is, and they need no closer look."""
        pending, limits, first, asked = self.pending, self.limits, requests[0], len(requests)
        rows = len(pending.line) + asked
        if rows * (admission.SHARE + 1) > admission.SHARE * limits.max_queue_size:
            return False
        tokens = first.cost if asked == 1 else sum([request.cost for request in requests])
        if pending.tokens + tokens > limits.max_queue_tokens:
            return False
        pace = up[0].pace
        free_at = up[0].free_at if len(up) == 1 else max([each.free_at for each in up])
        longest = _PESSIMISM * (rows // pace.size + 2) * pace.full_batch
        return (free_at if free_at > now else now) + longest < first.deadline

    def coalesced(self, count: int, now: float) -> None:
        """So many requests have arrived and joined a row in flight: they will not be queued."""
        self._regroup.arrived(now, count)

    # When

    def due(self, index: int, now: float, draining: bool) -> float:
        """The time at which this replica, which is free, should cut a batch; NOW for at once; inf:
        not before something changes."""
        pending, replica = self.pending, self.replicas[index]
        if not pending.rows or self._is_held():
            return math.inf
        is_only = len(self.replicas) == 1
        if not is_only and not dispatch.share(replica, self.replicas, pending.rows, now):
            # Another one will have done them all sooner, unless it takes longer than predicted.
            others_take = dispatch.others_take_until(replica, self.replicas)
            if now < others_take:
                return others_take
        if draining or pending.rows >= replica.max_batch_size or pending.retries:
            return NOW
        due = pending.oldest.arrival + self.limits.max_wait if self.limits.max_wait else NOW
        if self._regroup.pays and (is_only or not dispatch.is_another_idle(replica, self.replicas)):
            due = max(due, self._regroup.until(index))
        return NOW if due == NOW or is_full(pending, replica) else due

    def early_at(self, index: int, now: float, draining: bool) -> float:
        """When to cut the batch that follows the one that runs, so that it has reached the worker
        when the replica is free; NOW for at once, inf: not before that one has ended.

        As late as possible: a request that comes after it waits for another batch. Where a full
        batch waits nobody can join, so it is cut sooner, by as much as the prediction may be off.
        """
        replica = self.replicas[index]
        if replica.batches != 1 or not self.handoff or self.pending.retries or self._is_held():
            return math.inf
        running = replica.predicted[0]
        if self.is_too_short(index, running):
            return math.inf
        latest = replica.free_at - self.handoff
        delay = min(_CUT_DELAY, _MAX_CUT_DELAY * running)
        surely = latest - max(delay, replica.cost.margin * running)
        if now < surely:
            return surely
        if self.pending.rows >= replica.pace.size:
            others_first = len(self.replicas) > 1 and not dispatch.share(
                replica, self.replicas, self.pending.rows, now
            )
            return math.inf if others_first else NOW
        if now < latest:
            return latest
        if self._regroup.pays or self.due(index, now, draining) > now:
            return math.inf
        return NOW

    def _is_held(self) -> bool:
        return self.may_begin is not None and not self.pending.retries and not self.may_begin()

    def is_too_short(self, index: int, running: float) -> bool:
        """Is a batch of so many seconds too short to cut the next one before it has ended?

        Safe without the lock: it reads numbers that are replaced whole, and if one is out of date,
        the next batch is cut a moment later than it might be, or the lock is taken in vain.
        """
        is_full = self.pending.rows >= self.replicas[index].pace.size
        return not is_full and self.handoff > _MAX_EARLY * running

    # What

    def cut(self, index: int, now: float, draining: bool) -> Selection:
        """Takes a batch off the queue, and the late requests with it. Empty if all were late.

        The replica is free, or will be when the batch that runs has ended."""
        self._arrivals.update(now)
        replica = self.replicas[index]
        if replica.memory_ceiling.tokens < math.inf:
            replica.memory_ceiling.relax(now)
        oldest = next(iter(self.pending.by_age))
        has_equals = self.pending.rows < len(self.pending.line) or all(self.pending.equal)
        starts = max(now, replica.free_at) if replica.batches else now
        most = replica.max_batch_size
        if len(self.replicas) > 1:
            most = max(1, dispatch.share(replica, self.replicas, self.pending.rows, now))
        selection = select(self.pending, replica, starts, self.handoff, most)
        for request in selection.late:
            self.pending.remove(request)
        if not selection.taken:
            return selection
        for request in selection.skipped:
            request.times_skipped += 1
        others = self._duplicates(selection, now) if has_equals else ()
        self.pending.take(selection.taken, others)
        if self.pending.rows and self.pending.oldest is oldest and oldest not in selection.skipped:
            oldest.times_skipped += 1
        if selection.reason is None:
            selection.reason = self._reason(index, now, draining)
        replica.began(now, selection.predicted)
        if self.pending.rows:
            replica.left_work(len(selection.taken), selection.predicted)
            replica.set_pace(self.pending.tokens / self.pending.rows)
        return selection

    def rerun(self, index: int, rows: Sequence[Sequence[Request]], now: float) -> Selection:
        """A batch that is not cut from the queue: half of one that failed, or a canary (no rows).
        Each row is a request and its duplicates."""
        replica = self.replicas[index]
        taken = [row[0] for row in rows]
        duplicates = {place: list(row[1:]) for place, row in enumerate(rows) if len(row) > 1}
        costs = [request.cost for request in taken]
        tokens = replica.tokens_run(len(taken), max(costs, default=0), sum(costs))
        predicted = replica.cost.predict(len(taken), tokens)
        replica.began(now, predicted)
        reason: CloseReason = "split" if rows else "canary"
        return Selection(taken, duplicates, [], [], reason, tokens, sum(costs), predicted)

    def _duplicates(self, selection: Selection, now: float) -> list[Request]:
        """All those of what is taken, but for the late ones."""
        others: list[Request] = []
        for row, request in enumerate(selection.taken):
            if request.key is None:
                continue
            for equal in self.pending.equal_to(request):
                if equal.deadline <= now:
                    self.pending.remove(equal)
                    selection.late.append(equal)
                elif equal is not request:
                    selection.duplicates.setdefault(row, []).append(equal)
                    others.append(equal)
        return others

    def _reason(self, index: int, now: float, draining: bool) -> CloseReason:
        if draining:
            return "drain"
        if self.replicas[index].batches:
            return "ahead"
        if self.pending.rows and len(self.replicas) > 1:
            return "share"
        if self._regroup.pays and self._regroup.has_waited(index, now):
            return "regroup"
        return "max_wait" if self.limits.max_wait else "idle"

    # Learning

    def never_regroup(self) -> None:
        """What it answers is not followed by what comes next: there are stages between."""
        self._regroup.switch_off()

    def ended(
        self,
        index: int,
        now: float,
        *,
        began: float | None,
        size: int,
        tokens: int,
        useful_tokens: int,
        seconds: float,
        released: int,
    ) -> None:
        """A batch. `seconds` in the runner, 0 if it failed; `released`: requests answered; `began`:
        when it was cut (None: it did not start right then)."""
        replica = self.replicas[index]
        if seconds > 0.0:
            replica.cost.observe(max(1, size), max(1, tokens), seconds)
        replica.ended(now, tokens, useful_tokens, seconds)
        if seconds <= 0.0 or not size:
            return
        rows = self.pending.rows
        mean = self.pending.tokens / rows if rows else useful_tokens / size
        replica.set_pace(mean)
        if began is not None:
            # A long one means that the machine stood still: it counts for little.
            overhead = min(2.0 * self.handoff + 0.001, max(0.0, now - began - seconds))
            self.handoff += _LEARNING_RATE * (overhead - self.handoff)
        if released:
            rows = min(replica.pace.size, rows + released)
            next_batch = replica.pace.fixed + replica.pace.per_row * rows
            self._regroup.released(index, now, released, next_batch)

    def next_batch_seconds(self) -> float:
        """Predicted, for a batch of all that waits."""
        pace = self.replicas[0].pace
        return pace.seconds(min(pace.size, max(1, self.pending.rows)))

    def __repr__(self) -> str:
        busy = sum(replica.batches > 0 for replica in self.replicas)
        return f"<Schedule {len(self.pending)} waiting, {busy} replicas busy>"
