"""The smallest fleet that keeps the target: bisection over short trials, then one in full length.

One machine is played in virtual time. Machines do not share a queue: each gets an even share of the
rate, and a share of independent callers is again independent callers, so the rest are as this one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batcher.limits import Limits
from service.plan import trial
from service.plan.batch_time import Device
from service.plan.traffic import Traffic
from service.plan.trial import Trial
from service.plan.units import ms, replicas_of

SLICE = 5_000  # requests of a trial while searching, at the least
MOST = 600_000  # requests of the final trial: the luck of a p95 is then well below a percent
TIGHT = 0.10  # room for less growth than this is tight
LOST = 0.01  # the share of requests without an answer that a plan may have
_BARELY = 0.02  # of the capacity: a fleet that misses the target at this load will at any
STABLE = 0.95  # of the capacity: above it a short trial does not show that the queue grows
_ROUNDS, _BATCHES = 30, 300  # full batches that show the capacity, at the least and the most
_NEAR = 0.02  # as near as a bisection goes: the luck of a slice is no smaller
_SPAN = 20  # times the target: so much traffic shows whether a queue grows
_LONGER = 4  # times a slice at the most, and before the full length is played
_MENDS = 8  # how often the full length may ask for more than the slices did


class CannotBeKept(Exception):
    """No number of replicas keeps the target; one line that says why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Times in seconds, rates in requests a second."""

    rate: float  # of all machines
    p95: float
    handoff: float  # a batch takes a replica for this much longer than the model runs
    overhead: float  # and an answer takes this much longer than its batch and its wait
    seconds: float  # of the final trial
    per_machine: int  # the most replicas of a machine
    replicas: int | None = None  # so many and no other number
    devices: int = 1  # of a machine

    @property
    def outside(self) -> float:
        """What a request that is alone takes beyond the model."""
        return self.handoff + self.overhead


@dataclass(frozen=True, slots=True)
class Fleet:
    machines: int
    replicas: int  # of each machine
    limits: Limits

    @property
    def total(self) -> int:
        return self.machines * self.replicas


@dataclass(frozen=True, slots=True)
class Plan:
    goal: Goal
    fleet: Fleet
    final: Trial  # of one machine
    kept: bool
    within: float  # the largest rate of the fleet that keeps the target
    breaks: float  # the rate of the fleet from which on the queue grows

    @property
    def utilisation(self) -> float:
        """The share of what the fleet can do. It is busy for more: small batches take long."""
        return self.goal.rate / self.breaks


class Planner:
    def __init__(
        self,
        goal: Goal,
        traffic: Traffic,
        device: Device,
        tell: Callable[[str], None],
        slice_of: int = SLICE,
    ) -> None:
        self._slice = slice_of
        self._goal, self._traffic, self._tell = goal, traffic, tell
        self._batch_time = functools.cache(lambda *batch: device.seconds(*batch) + goal.handoff)
        self._profile = [
            (size, tokens, self._batch_time(size, tokens)) for size, tokens, _ in device.points
        ]
        self._padding_free = device.padding_free
        self._trials: dict[tuple[float, int, Limits], Trial] = {}
        self._capacities: dict[Limits, float] = {}
        lengths = np.sort(traffic.lengths_seen(slice_of))
        self._shortest = int(lengths[0])
        self._long, self._longest = (int(lengths[int(q * (len(lengths) - 1))]) for q in (0.95, 1))

    def plan(self, start: Limits, sizes: Sequence[int], budgets: Sequence[int]) -> Plan:
        """Tries the sizes under the first budget, then the other budgets. What comes first stays
        unless another saves a replica, or lets as many carry a tenth more.

        Raises CannotBeKept where not even a request alone on an idle replica is fast enough.
        """
        alone = self._batch_time(1, self._long) + self._goal.overhead
        if alone > self._goal.p95:
            raise CannotBeKept(
                f"a p95 of {ms(self._goal.p95)} cannot be kept by any number of replicas: a single"
                f" request on an idle replica takes {ms(alone)}, {ms(self._goal.outside)} of it"
                " outside the model"
            )
        best: Fleet | None = None
        fillable = max(1, budgets[0] // self._shortest)  # no batch has more requests
        seen: set[int] = set()
        for size in sizes:
            if min(size, fillable) in seen:
                continue
            seen.add(min(size, fillable))
            limits = dataclasses.replace(start, max_batch_size=size, max_batch_tokens=budgets[0])
            best = self._smallest(limits) if best is None else self._challenge(best, limits)
        for budget in budgets[1:]:
            if best and budget < best.limits.max_batch_size * self._longest:
                limits = dataclasses.replace(best.limits, max_batch_tokens=budget)
                best = self._challenge(best, limits)
        if best is None:
            raise CannotBeKept(
                f"a p95 of {ms(self._goal.p95)} is not kept by any number of replicas that was"
                f" tried, not even at {_BARELY:.0%} load: a single request takes {ms(alone)}"
            )
        return self._in_full(best)

    def curve(self, fleet: Fleet) -> list[Trial]:
        """Trials of one machine at rising rates, up to where it breaks."""
        capacity = self._capacity(fleet.limits) * fleet.replicas
        shares = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
        return [self._trial(share * capacity, fleet.replicas, fleet.limits) for share in shares]

    def _smallest(self, limits: Limits) -> Fleet | None:
        """None: the target is missed at any load."""
        rate, most = self._goal.rate, self._goal.per_machine
        self._tell(f"up to {limits.max_batch_size} requests, {limits.max_batch_tokens} tokens")
        if self._goal.replicas is not None:
            machines = math.ceil(self._goal.replicas / most)
            return Fleet(machines, self._goal.replicas // machines, limits)
        least = self._at_least(limits)
        if least <= most and self._holds(rate, most, limits):
            low, high = least - 1, most
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._holds(rate, middle, limits) else (middle, high)
            return Fleet(1, high, limits)
        share = self._within(most, limits)
        return Fleet(math.ceil(rate / share), most, limits) if share else None

    def _challenge(self, best: Fleet, limits: Limits) -> Fleet:
        """`best`, unless these limits save a replica or let as many carry more."""
        rate = self._goal.rate
        other = dataclasses.replace(best, limits=limits)
        if not self._carries(best, rate):  # a given number of replicas, and too few
            better = self._trial_of(other, rate).p95 < self._trial_of(best, rate).p95
            return other if better else best
        less = self._one_less(other)
        if less is not None and self._carries(less, rate):
            return self._smallest(limits) or best
        more = (1 + TIGHT) * rate
        better = not self._carries(best, more) and self._carries(other, more)
        return other if better else best

    def _one_less(self, fleet: Fleet) -> Fleet | None:
        if self._goal.replicas is not None or fleet.total == 1:
            return None
        if fleet.machines > 1:
            return dataclasses.replace(fleet, machines=fleet.machines - _step(fleet.machines))
        return dataclasses.replace(fleet, replicas=fleet.replicas - 1)

    def _at_least(self, limits: Limits) -> int:
        """Replicas without which the queue grows, or nearly."""
        return math.ceil(self._goal.rate / (self._capacity(limits) * STABLE))

    def _in_full(self, fleet: Fleet) -> Plan:
        goal = self._goal
        for mend in range(_MENDS + 1):
            share = goal.rate / fleet.machines
            count = min(MOST, max(self._slice, math.ceil(share * goal.seconds)))
            where = f"{fleet.machines:,} machines, on each " if fleet.machines > 1 else ""
            last = goal.replicas is not None or mend == _MENDS
            # Too small a fleet mostly shows in a part of it already.
            for part in (count,) if last else (min(count, _LONGER * self._slice), count):
                self._tell(f"{where}{replicas_of(fleet.replicas)}: simulating {part:,} requests")
                final = self._run(share, fleet.replicas, fleet.limits, part)
                if part == count or not self._keeps(final):
                    break
            if last or self._keeps(final):
                break
            if fleet.replicas < goal.per_machine:
                fleet = dataclasses.replace(fleet, replicas=fleet.replicas + 1)
            else:
                more = fleet.machines + _step(fleet.machines)
                fleet = dataclasses.replace(fleet, machines=more)
        self._tell("the rate at which it breaks")
        breaks = self._capacity(fleet.limits) * fleet.total
        kept = self._keeps(final) and goal.rate < breaks
        within = self._within(fleet.replicas, fleet.limits) * fleet.machines
        # The slices and the full length differ by some luck; the full length has the last word.
        within = max(within, goal.rate) if kept else min(within, goal.rate)
        return Plan(goal, fleet, final, kept, within, breaks)

    def _within(self, replicas: int, limits: Limits) -> float:
        """The largest rate of a machine that keeps the target, by bisection; 0: none does."""
        capacity = self._capacity(limits) * replicas
        low, high = _BARELY * capacity, STABLE * capacity
        if not self._holds(low, replicas, limits):
            return 0.0
        if self._holds(high, replicas, limits):
            return high
        while high - low > _NEAR * high:
            middle = (low + high) / 2
            if self._holds(middle, replicas, limits):
                low = middle
            else:
                high = middle
        return low

    def _capacity(self, limits: Limits) -> float:
        """Answers a second of one replica that is never without work: above it the queue grows."""
        if limits not in self._capacities:
            # A few hundred batches, however small the budget makes them.
            longest = (limits.max_batch_tokens or sys.maxsize) // self._shortest
            size = max(1, min(limits.max_batch_size, longest))
            count = max(_ROUNDS * size, min(self._slice, _BATCHES * size))
            arrivals = self._traffic.requests(1.0, count)
            self._capacities[limits] = trial.capacity(
                arrivals, limits, self._batch_time, self._profile, self._padding_free
            )
        return self._capacities[limits]

    def _holds(self, rate: float, replicas: int, limits: Limits) -> bool:
        return self._keeps(self._trial(rate, replicas, limits))

    def _keeps(self, tried: Trial) -> bool:
        return tried.p95 <= self._goal.p95 and tried.lost <= LOST

    def _carries(self, fleet: Fleet, rate: float) -> bool:
        if rate > STABLE * self._capacity(fleet.limits) * fleet.total:
            return False
        return self._keeps(self._trial_of(fleet, rate))

    def _trial_of(self, fleet: Fleet, rate: float) -> Trial:
        return self._trial(rate / fleet.machines, fleet.replicas, fleet.limits)

    def _trial(self, rate: float, replicas: int, limits: Limits) -> Trial:
        key = (rate, replicas, limits)
        if key not in self._trials:
            self._trials[key] = self._run(rate, replicas, limits, self._enough(rate))
        return self._trials[key]

    def _enough(self, rate: float) -> int:
        """Requests of a slice: doubled until a growing queue would show."""
        wanted = _SPAN * self._goal.p95 * rate
        count = self._slice
        while count < min(wanted, _LONGER * self._slice):
            count *= 2
        return count

    def _run(self, rate: float, replicas: int, limits: Limits, count: int) -> Trial:
        arrivals = self._traffic.requests(rate, count)
        return trial.run(
            arrivals,
            rate,
            limits,
            replicas,
            self._batch_time,
            self._goal.overhead,
            self._profile,
            self._padding_free,
        )


def _step(machines: int) -> int:
    return math.ceil(machines * 0.02)
