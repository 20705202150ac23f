"""Schedule: what waits, what is known of the devices, and every decision about the two. No lock, no
clock, no I/O.

The collector runs it with threads and real time, the simulator with a heap and virtual time: the
same calls at the same times form the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from batcher.errors import Overloaded
from batcher.limits import Limits
from batcher.request import Request, is_bulk
from batcher.scheduling import admission, policy
from batcher.scheduling.admission import Arrivals
from batcher.scheduling.pending import Pending
from batcher.scheduling.policy import Fill
from batcher.scheduling.regroup import Regroup
from batcher.scheduling.replica_model import Device

_LEARNING = 0.1  # the weight of the last batch
_RECENTLY = 2.0  # seconds
_GRAIN = 0.001  # seconds: of what a thread that waits for time and answers can tell apart
# What may keep a thread from cutting a batch in time: another one that has the interpreter's lock.
_DELAY, _MOST_DELAY = 0.005, 0.25  # seconds, and at most such a share of the batch that runs
_MOST_AHEAD = 0.5  # of a batch: cut sooner, the next one misses more than it gains
_LEAST = 1e-9  # seconds of a row
_ROUNDING = 1e-6  # rows
_SLOW = 3.0  # times what another takes for a whole batch


class Schedule:
    def __init__(self, limits: Limits, devices: int = 1) -> None:
        self.limits = limits
        self.pending = Pending(limits.share_equal)
        self.devices = [Device(limits) for _ in range(devices)]
        self.handoff = 0.0  # seconds that a batch takes beside its time in the runner
        self._regroup = Regroup()
        self._arrivals = Arrivals()
        self._arrived = [0, 0]  # since the last cut, by lane
        self._cut_at: float | None = None

    def refusal(self, requests: Sequence[Request], now: float) -> Overloaded | None:
        """All of these or none: None means that they may be added."""
        self._arrived[is_bulk(requests[0].priority)] += len(requests)
        up = self.devices
        if len(up) > 1 or not up[0].is_up:
            up = [device for device in up if device.is_up]
        if len(up) > 1:  # what a slow one may do is no promise
            known = [device.pace.whole for device in up if device.pace.whole]
            most = _SLOW * min(known, default=math.inf)
            up = [device for device in up if device.pace.whole <= most]
        return admission.refusal(
            self.pending, requests, self.limits, up, now, self.handoff, self._arrivals
        )

    def add(self, requests: Sequence[Request], now: float) -> None:
        for request in requests:
            self.pending.add(request)
        self._regroup.arrived(now, len(requests))

    def joined(self, count: int, now: float) -> None:
        """So many found their answer on its way, and will not wait in the queue."""
        self._regroup.arrived(now, count)

    def due(self, device: int, now: float, draining: bool) -> float:
        """The time at which that one, which is free, should cut a batch; policy.NOW for at once.

        Never on an empty queue.
        """
        its = self.devices[device]
        if len(self.devices) > 1 and not self._share(its, now):
            if self._is_sooner_idle(its):
                return math.inf  # that one takes them: it looks whenever anything changes
            # All that wait are done sooner by another, unless that one takes longer than predicted.
            busy = [each.free_at for each in self.devices if each.is_up and each.batches]
            if busy and now < min(busy) + its.pace.fixed:
                return min(busy) + its.pace.fixed
        if draining:
            return policy.NOW
        hold = policy.NOW if self._is_another_idle(its) else self._regroup.until(device)
        return policy.due(self.pending, self.limits, its, hold)

    def ahead_at(self, device: int, now: float, draining: bool) -> float:
        """When to cut the batch that follows the one that runs there, so that it has crossed when
        the device is free; policy.NOW for at once, inf: not before that one has ended.

        As late as will do: whoever comes after it is in the batch after that. Where a whole batch
        waits, nobody would, and it may be sooner by as much as the prediction may be off.
        """
        its = self.devices[device]
        if its.batches != 1 or not self.handoff or self.pending.is_retry:
            return math.inf
        if self.is_soon_over(device, its.running):
            return math.inf
        latest = its.free_at - self.handoff
        delay = min(_DELAY, _MOST_DELAY * its.running)
        sure = latest - max(delay, its.cost.margin * its.running)
        if now < sure:
            return sure
        if self.pending.rows >= its.pace.size:
            others_first = len(self.devices) > 1 and not self._share(its, now)
            return math.inf if others_first else policy.NOW
        if now < latest:
            return latest
        if not self.pending or self._regroup.pays or self.due(device, now, draining) > now:
            return math.inf
        return policy.NOW

    def is_soon_over(self, device: int, running: float) -> bool:
        """Does nothing follow a batch of so many seconds before it has ended? A glance: it may be
        asked without the lock, and be wrong for one batch."""
        is_whole = self.pending.rows >= self.devices[device].pace.size
        return not is_whole and self.handoff > _MOST_AHEAD * running

    def cut(self, device: int, now: float, draining: bool) -> Fill:
        """Takes a batch off the queue, and those who are late with it. Empty if all were late.

        The device is free, or will be when the one that runs has ended."""
        self._count(now)
        its = self.devices[device]
        its.ceiling.relax(now)
        oldest = self.pending.oldest
        starts = its.starts(now)
        most = self._share(its, now) if len(self.devices) > 1 else its.max_batch_size
        fill = policy.fill(self.pending, its, starts, self.handoff, max(1, most))
        for request in fill.late:
            self.pending.remove(request)
        if not fill.taken:
            return fill
        for request in fill.passed:
            request.passed += 1
        self._take(fill, now)
        if self.pending and self.pending.oldest is oldest and oldest not in fill.passed:
            oldest.passed += 1
        if not fill.reason:
            fill.reason = self._reason(device, now, draining)
        its.began(now, fill.predicted)
        if self.pending:
            its.left_work(len(fill.taken), fill.predicted)
            its.set_pace(self.pending.tokens / self.pending.rows)
        return fill

    def _count(self, now: float) -> None:
        if self._cut_at is not None and now > self._cut_at:
            seconds = now - self._cut_at
            keep = math.exp(-seconds / _RECENTLY)
            new = (1.0 - keep) / seconds
            self._arrivals = Arrivals(
                keep * self._arrivals.interactive + new * self._arrived[0],
                keep * self._arrivals.bulk + new * self._arrived[1],
            )
        self._arrived, self._cut_at = [0, 0], now

    def _is_another_idle(self, device: Device) -> bool:
        """Then that one would start at once, and waiting is in vain; not so a far slower one."""
        return len(self.devices) > 1 and any(
            each.is_up and not each.batches and each.pace.whole <= _SLOW * device.pace.whole
            for each in self.devices
            if each is not device
        )

    def _is_sooner_idle(self, device: Device) -> bool:
        return any(
            each.is_up and not each.batches and each.pace.fixed + _GRAIN < device.pace.fixed
            for each in self.devices
        )

    def soonest(self, devices: Iterable[int]) -> int:
        """Which of these, which are all free, would answer first."""
        return min(devices, key=lambda each: (self.devices[each].pace.fixed, each))

    def is_slow(self, device: int) -> bool:
        """Far slower than another one: it gets next to no work, and nothing else would show that
        it has recovered."""
        whole = self.devices[device].pace.whole
        return any(each.is_up and 0.0 < _SLOW * each.pace.whole < whole for each in self.devices)

    def _share(self, its: Device, now: float) -> int:
        """How many of the rows that wait it should take; the others go to whoever is free next.

        Those that it would be the first to answer, if each went to where its own answer is expected
        soonest (least expected completion): with equal devices that is no more than its part. Of
        the others as much as a batch's time is fixed: where rows cost next to nothing, two batches
        in place of one only keep two devices from those who come next. O(devices log devices).
        """
        rows = self.pending.rows
        rate = filled = level = 0.0  # counted from now: where rows cost next to nothing, they and
        # the time since the machine was started do not fit into one number
        for start, each in sorted([_start(each, now) for each in self.devices if each.is_up]):
            if rate and level <= start:
                break
            rate, filled = rate + 1.0 / each, filled + start / each
            level = (rows + filled) / rate  # the time at which all would be done
        start, each = _start(its, now)
        first = math.ceil((level - start) / each - _ROUNDING)
        if first <= 0:
            return 0
        most = min(rows, its.max_batch_size)
        fixed = its.pace.fixed / its.pace.whole if its.pace.whole else 1.0
        return max(1, min(most, first + int(fixed * max(0, most - first))))

    def _take(self, fill: Fill, now: float) -> None:
        """With everybody who waits for the same as one of them, but for those who are late."""
        others: list[Request] = []
        for row, request in enumerate(fill.taken if self.pending.has_equals else ()):
            if request.key is not None:
                for twin in self.pending.equal_to(request):
                    if twin.deadline <= now:
                        self.pending.remove(twin)
                        fill.late.append(twin)
                    elif twin is not request:
                        fill.twins.setdefault(row, []).append(twin)
                        others.append(twin)
        self.pending.take(fill.taken, others)

    def _reason(self, device: int, now: float, draining: bool) -> str:
        if draining:
            return "drain"
        if self.devices[device].batches:
            return "ahead"
        if self.pending and len(self.devices) > 1:
            return "share"
        if self._regroup.has_waited(device, now):
            return "regroup"
        return "max_wait" if self.limits.max_wait else "idle"

    def began(self, device: int, now: float, size: int, tokens: int) -> float:
        """A batch that was not cut: a part of one that failed, or a canary. Returns its predicted
        seconds."""
        its = self.devices[device]
        predicted = its.cost.predict(size, tokens)
        its.began(now, predicted)
        return predicted

    def ended(
        self,
        device: int,
        now: float,
        *,
        began: float | None,
        size: int,
        tokens: int,
        useful_tokens: int,
        seconds: float,
        released: int,
    ) -> None:
        """A batch. `seconds` in the runner, 0 if it failed; `released`: how many got an answer;
        `began`: when it was cut (None: it did not run right then)."""
        its = self.devices[device]
        its.ended(now, size, tokens, useful_tokens, seconds)
        if seconds <= 0.0 or not size:
            return
        rows = self.pending.rows
        mean = self.pending.tokens / rows if rows else useful_tokens / size
        its.set_pace(mean)
        if began is not None:
            # One that took long was a machine that stood still: it counts for little.
            overhead = min(2.0 * self.handoff + 0.001, max(0.0, now - began - seconds))
            self.handoff += _LEARNING * (overhead - self.handoff)
        if released:
            rows = min(its.pace.size, rows + released)
            self._regroup.released(device, now, released, its.pace.seconds(rows))

    def next_batch_seconds(self) -> float:
        """As predicted, were one cut of all that waits."""
        pace = self.devices[0].pace
        return pace.seconds(min(pace.size, max(1, self.pending.rows)))


def _start(device: Device, now: float) -> tuple[float, float]:
    """In how long its next batch would be done, but for its rows; and the seconds of each of
    those. One that is overdue may take as long again."""
    free_in = abs(device.free_at - now) if device.batches else 0.0
    return free_in + device.pace.fixed, max(device.pace.each, _LEAST)
