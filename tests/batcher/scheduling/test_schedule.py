"""What is decided batch after batch: lanes, ageing, lengths, lateness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from batcher.errors import NeverInTime
from batcher.limits import Limits
from batcher.request import Request
from batcher.scheduling import dispatch
from batcher.scheduling.schedule import NOW, Schedule
from batcher.scheduling.selection import MAX_SKIPPED, Selection
from tests.fakes import request


def add(schedule: Schedule, requests: Sequence[Request]) -> None:
    """Past the door, which would refuse some of them."""
    for each in requests:
        schedule.pending.add(each)


class Device:
    """One device of known speed, in virtual time: batches follow each other."""

    def __init__(
        self, limits: Limits, fixed: float = 0.01, each: float = 0.001, per_token: float = 0.0
    ) -> None:
        self.weights = (fixed, each, per_token)
        self.schedule = Schedule(limits)
        self.now = 0.0
        points = [
            (size, size * long, self.seconds(size, size * long))
            for size in (1, 8, 64)
            for long in (1, 16, 256)
        ]
        self.schedule.replicas[0].came_up(points, now=self.now)

    def seconds(self, size: int, tokens: int) -> float:
        fixed, each, per_token = self.weights
        return fixed + each * size + per_token * tokens

    def add(self, *requests: Request) -> None:
        add(self.schedule, requests)

    def run(self) -> Selection:
        selection = self.schedule.cut(0, self.now, draining=False)
        if selection.taken:
            began, size = self.now, len(selection.taken)
            seconds = self.seconds(size, selection.tokens)
            self.now += seconds
            self.schedule.ended(
                0,
                self.now,
                began=began,
                size=size,
                tokens=selection.tokens,
                useful_tokens=sum(each.cost for each in selection.taken),
                seconds=seconds,
                released=size,
            )
        return selection


def some(count: int, **of: float) -> list[Request]:
    return [request(**of) for _ in range(count)]  # type: ignore[arg-type]


def priorities(requests: Sequence[Request]) -> set[int]:
    return {each.priority for each in requests}


# Lanes


def test_bulk_may_make_interactive_work_as_late_as_one_whole_batch_would_the_wait_counted() -> None:
    device = Device(Limits(max_batch_size=64))  # a whole batch takes 74 ms, and four 14 ms
    device.now = 0.0695
    device.add(*some(40, priority=6), *some(4, priority=3))
    selection = device.run()
    assert [each.priority for each in selection.taken] == [3] * 4 + [6] * 4
    assert selection.reason == "lanes"
    assert selection.predicted == pytest.approx(0.018, rel=0.001)


def test_interactive_work_that_has_waited_longer_goes_without_bulk() -> None:
    device = Device(Limits(max_batch_size=64))
    device.now = 0.075
    device.add(*some(40, priority=6), *some(4, priority=3))
    assert priorities(device.run().taken) == {3}


def test_bulk_uses_the_slots_that_are_left_and_never_takes_one_from_interactive_work() -> None:
    device = Device(Limits(max_batch_size=8), each=0.0)
    device.add(*some(20, priority=6), *some(6, priority=0))
    assert [each.priority for each in device.run().taken] == [0] * 6 + [6] * 2


def test_without_interactive_work_bulk_has_the_device_to_itself() -> None:
    device = Device(Limits(max_batch_size=64))
    device.add(*some(64, priority=6))
    assert len(device.run().taken) == 64


def test_long_bulk_is_not_padded_into_a_short_interactive_batch() -> None:
    device = Device(Limits(max_batch_size=64), per_token=0.001)
    short_bulk = request(priority=6, cost=2)
    device.add(request(priority=6, cost=200), short_bulk, *some(4, priority=3, cost=2))
    selection = device.run()
    assert max(each.cost for each in selection.taken) == 2
    assert short_bulk in selection.taken


def test_in_a_flood_of_bulk_interactive_work_has_its_answer_a_whole_batch_later_at_most() -> None:
    device = Device(Limits(max_batch_size=16, max_queue_size=10_000))
    device.add(*some(5000, priority=7))
    device.run()  # bulk alone is there: it has the device
    whole, mixed = device.seconds(16, 16), 0
    for turn in range(60):
        arrival = device.now - turn % 4 * whole / 4  # some time during the last batch
        own = some(4, priority=2, arrival=arrival)
        device.add(*own)
        cut = device.now
        selection = device.run()
        if selection.taken[0].priority == 7:
            continue  # whoever is oldest had been passed over as often as may be
        mixed += len(selection.taken) > 4
        assert set(own) <= set(selection.taken)
        interactive = [each for each in selection.taken if each.priority == 2]
        alone = device.seconds(len(interactive), len(interactive))
        waited = cut - min(each.arrival for each in interactive)
        assert selection.predicted <= 1.001 * (alone + max(0.0, whole - waited))
    assert mixed > 20


def test_the_more_urgent_level_goes_first_in_either_lane() -> None:
    device = Device(Limits(max_batch_size=4), each=0.0)
    for level in (7, 3, 5, 1, 4, 0, 2, 6):
        device.add(request(priority=level))
    assert [each.priority for each in device.run().taken] == [0, 1, 2, 3]
    assert [each.priority for each in device.run().taken] == [4, 5, 6, 7]


# Nobody is passed over for ever


@pytest.mark.parametrize("each", [0.0, 0.001, 1.0])
def test_bulk_beside_interactive_work_without_end_is_served_all_the_same(each: float) -> None:
    device = Device(Limits(max_batch_size=8), each=each)
    lone = request(priority=7)
    device.add(lone)
    batches = 0
    while lone in device.schedule.pending:
        device.add(*some(16, priority=0))
        device.run()
        batches += 1
        assert batches <= MAX_SKIPPED + 1
    assert batches == MAX_SKIPPED + 1  # and interactive work had every slot until then


def test_whoever_is_oldest_is_left_behind_at_most_so_many_times_at_every_level() -> None:
    device = Device(Limits(max_batch_size=4))
    left: dict[Request, int] = {}
    oldest: list[Request] = []
    for turn in range(300):
        device.add(*some(3, priority=0), request(priority=turn % 8), request(priority=3))
        before = device.schedule.pending.oldest
        device.run()
        if device.schedule.pending.oldest is before:
            left[before] = left.get(before, 0) + 1
        else:
            oldest.append(before)
    assert max(left.values()) == MAX_SKIPPED
    assert len(oldest) > 30


def test_a_long_text_among_short_ones_without_end_is_served_all_the_same() -> None:
    device = Device(Limits(max_batch_size=8), per_token=0.001)
    long = request(cost=200)
    device.add(*some(6, cost=2), long)
    batches = 0
    while long in device.schedule.pending:
        device.add(*some(8, cost=2))
        batches += 1
        device.run()
    assert 2 <= batches <= MAX_SKIPPED + 1


def test_so_is_a_long_text_that_more_urgent_short_ones_would_have_to_be_padded_for() -> None:
    device = Device(Limits(max_batch_size=8), per_token=0.001)
    long = request(cost=200, priority=3)
    device.add(long)
    batches = 0
    while long in device.schedule.pending:
        device.add(*some(4, cost=2, priority=0))  # it would have a slot in each of their batches
        device.run()
        batches += 1
        assert batches <= MAX_SKIPPED + 1
    assert batches == MAX_SKIPPED + 1


def test_texts_of_two_lengths_run_apart_where_padding_costs_more_than_a_batch() -> None:
    device = Device(Limits(max_batch_size=64, max_batch_tokens=16384), per_token=0.001)
    device.add(*(request(cost=cost) for cost in (2, 200) * 8))
    first, second = device.run(), device.run()
    assert {each.cost for each in first.taken} == {2}
    assert {each.cost for each in second.taken} == {200}
    assert (first.reason, len(first.taken), len(second.taken)) == ("lengths", 8, 8)


def test_texts_of_two_lengths_run_together_where_padding_costs_next_to_nothing() -> None:
    device = Device(Limits(max_batch_size=64), per_token=0.0)
    device.add(*(request(cost=cost) for cost in (2, 200) * 8))
    assert len(device.run().taken) == 16


# Who cannot be in time


def test_who_would_be_late_never_runs_and_the_place_is_filled() -> None:
    device = Device(Limits(max_batch_size=4))  # a batch of four takes 14 ms
    late, fine = some(2, deadline=0.013), some(4, deadline=0.020)
    device.add(*late, *fine)
    selection = device.run()
    assert (selection.taken, selection.late) == (fine, late)


def test_a_batch_is_not_made_smaller_to_save_the_first_in_line() -> None:
    device = Device(Limits(max_batch_size=8))
    head = request(deadline=0.012)  # alone it would just be in time
    device.add(head, *some(7))
    selection = device.run()
    assert selection.late == [head]
    assert len(selection.taken) == 7


def test_if_nobody_can_be_in_time_the_batch_runs_anyway() -> None:
    """The device has nothing better to do, and only a run can show a prediction to be wrong."""
    device = Device(Limits(max_batch_size=8))
    hopeless = some(3, deadline=0.005)
    device.add(*hopeless)
    selection = device.run()
    assert (selection.taken, selection.late) == (hopeless, [])


def test_but_not_if_the_device_has_just_run() -> None:
    device = Device(Limits(max_batch_size=8))
    device.add(request())
    device.run()
    device.now += 0.999
    hopeless = request(deadline=device.now + 0.005)
    device.add(hopeless)
    assert (device.run().late, device.schedule.replicas[0].batches) == ([hopeless], 0)
    device.now += 0.002
    again = request(deadline=device.now + 0.005)
    device.add(again)
    assert device.run().taken == [again]


def test_whose_deadline_has_passed_never_runs_even_then() -> None:
    device = Device(Limits())
    gone, hopeless = request(deadline=0.0), request(deadline=0.005)
    device.add(gone, hopeless)
    selection = device.run()
    assert (selection.taken, selection.late) == ([hopeless], [gone])
    device.add(request(deadline=device.now))
    assert device.run().taken == []


def test_the_hand_over_counts_as_part_of_a_batch() -> None:
    device = Device(Limits())
    device.add(request(deadline=0.0125), request(deadline=1.0))
    device.schedule.handoff = 0.001
    assert len(device.run().late) == 1  # 12 ms and one more


def test_so_does_what_batches_take_beyond_the_prediction_one_time_in_twenty() -> None:
    device = Device(Limits())
    device.add(request(deadline=0.0125), request(deadline=1.0))
    device.schedule.replicas[0].cost.margin = 0.1
    assert len(device.run().late) == 1


def test_who_is_late_is_dropped_with_the_equal_that_is_not_left_in_its_row() -> None:
    device = Device(Limits())
    late, fine = request(key="same", deadline=0.005), request(key="same", deadline=1.0)
    device.add(late, fine)
    selection = device.run()
    assert (selection.taken, selection.late, selection.duplicates) == ([fine], [late], {})


# Company


def test_a_replica_waits_for_those_just_answered_but_not_while_another_is_idle() -> None:
    schedule = Schedule(Limits(), replicas=2)
    for device in schedule.replicas:
        device.came_up([(size, size, 1.0) for size in (1, 4, 16)])
    add(schedule, some(2))
    schedule.cut(0, 0.0, draining=False)
    add(schedule, some(1))
    schedule.cut(1, 0.5, draining=False)
    schedule.ended(0, 1.0, began=0.0, size=2, tokens=2, useful_tokens=2, seconds=1.0, released=2)
    add(schedule, some(1, arrival=1.0))
    assert schedule.due(0, 1.0, draining=False) == pytest.approx(1.1, rel=1e-4)
    assert schedule.due(0, 1.0, draining=True) == NOW
    schedule.ended(1, 1.05, began=0.5, size=1, tokens=1, useful_tokens=1, seconds=0.0, released=0)
    for device in (0, 1):
        assert schedule.due(device, 1.05, draining=False) == NOW


def test_bulk_is_left_out_where_it_would_make_interactive_work_late() -> None:
    device = Device(Limits(max_batch_size=32))  # one takes 11 ms, a whole batch 42
    urgent = request(deadline=0.015)
    device.add(urgent)
    device.add(*some(40, priority=6))
    selection = device.run()
    assert urgent in selection.taken
    assert selection.late == []
    assert device.now <= 0.015


def test_a_batch_of_which_most_would_be_late_by_a_hair_runs_a_little_smaller() -> None:
    device = Device(Limits(max_batch_size=32))
    device.add(*some(32, deadline=0.0419))  # 32 take 42 ms
    device.add(request(deadline=9.0))
    selection = device.run()
    assert len(selection.taken) == 31
    assert len(selection.late) == 1


def test_a_long_queue_of_hopeless_requests_is_cleared_a_part_at_a_time() -> None:
    """Each cut looks at a few batches' worth; whoever is found late is off the queue for good."""
    device = Device(Limits(max_batch_size=1))
    device.add(request())
    device.run()  # so the device is no longer untried
    device.add(*some(4000, deadline=device.now + 0.001))
    last = request()
    device.add(last)
    cuts = 0
    while last not in (selection := device.run()).taken:
        assert 1 <= len(selection.late) <= 8
        assert not selection.taken
        cuts += 1
    assert cuts >= 500
    assert not device.schedule.pending


# The batch that follows the one which runs


PROFILE = [(size, size, 0.010 + 0.001 * size) for size in (1, 4, 16, 64)]
HANDOFF = 0.002


def busy(limits: Limits, running: int) -> Schedule:
    """One device that runs so many from 0 on, of callers that do not come back; hand-over 2 ms."""
    schedule = Schedule(limits)
    schedule.replicas[0].came_up(PROFILE)
    schedule._regroup.pays = False
    schedule.handoff = HANDOFF
    add(schedule, some(running))
    schedule.cut(0, 0.0, draining=False)
    return schedule


def test_the_next_batch_is_cut_one_hand_over_before_the_device_is_free() -> None:
    schedule = busy(Limits(), running=10)  # 20 ms
    early = schedule.early_at(0, 0.0, draining=False)
    assert early == pytest.approx(0.020 - HANDOFF - 0.005)
    add(schedule, some(3))
    latest = schedule.early_at(0, early, draining=False)
    assert latest == pytest.approx(0.020 - HANDOFF)
    assert schedule.early_at(0, latest, draining=False) == NOW
    selection = schedule.cut(0, latest, draining=False)
    assert (len(selection.taken), selection.reason) == (3, "ahead")
    # It starts when the one that runs has ended, and no third one is cut meanwhile.
    assert schedule.replicas[0].free_at == pytest.approx(0.020 + 0.013)
    assert schedule.early_at(0, latest, draining=False) == math.inf


def test_where_a_whole_batch_waits_it_is_cut_sooner_as_nobody_could_join_it() -> None:
    schedule = busy(Limits(max_batch_size=10), running=10)
    add(schedule, some(10))
    early = schedule.early_at(0, 0.001, draining=False)
    assert schedule.early_at(0, early, draining=False) == NOW
    schedule.replicas[0].cost.margin = 0.4  # batches may well be 8 ms early or late
    assert schedule.early_at(0, 0.001, draining=False) == pytest.approx(early - 0.003)


def test_nothing_is_cut_ahead_while_callers_that_come_back_are_waited_for() -> None:
    schedule = busy(Limits(), running=10)
    add(schedule, some(3))
    schedule._regroup.pays = True
    assert schedule.early_at(0, 0.0185, draining=False) == math.inf


@pytest.mark.parametrize("handoff", [0.0, 0.011])
def test_nor_where_the_hand_over_is_not_known_or_is_most_of_a_batch(handoff: float) -> None:
    schedule = busy(Limits(), running=10)
    schedule.handoff = handoff
    add(schedule, some(3))
    assert schedule.early_at(0, 0.0195, draining=False) == math.inf


def test_nor_of_those_whose_wait_is_not_up() -> None:
    schedule = busy(Limits(max_wait=1.0), running=10)
    add(schedule, some(3, arrival=0.005))
    assert schedule.early_at(0, 0.0185, draining=False) == math.inf


def test_who_would_be_late_behind_the_one_that_runs_is_not_in_it() -> None:
    schedule = busy(Limits(), running=10)
    late, fine = request(deadline=0.030), request(deadline=0.040)
    add(schedule, [late, fine])
    assert schedule.cut(0, 0.018, draining=False).late == [late]


# Devices that run no padding


def test_where_padding_costs_nothing_all_lengths_share_a_batch() -> None:
    schedule = Schedule(Limits(max_batch_tokens=600))
    points = [(n, n * long, 0.001 + 1e-5 * n * long) for n in (1, 8, 64) for long in (1, 16, 256)]
    (device,) = schedule.replicas
    device.came_up(points, padding_free=True)
    add(schedule, [request(cost=cost) for cost in (500, 3, 4, 5, 6, 90)])
    selection = schedule.cut(0, 0.0, draining=False)
    assert [each.cost for each in selection.taken] == [500, 3, 4, 5, 6]
    assert (selection.tokens, selection.reason) == (518, "tokens")
    assert selection.predicted == pytest.approx(0.001 + 518e-5, rel=0.01)


# Several devices


def devices(count: int, fixed: float, each: float) -> Schedule:
    schedule = Schedule(Limits(max_batch_size=32), count)
    for device in schedule.replicas:
        device.came_up([(size, size, fixed + each * size) for size in (1, 4, 16, 64)])
    return schedule


def cut_all(schedule: Schedule, rows: int) -> list[int]:
    add(schedule, some(rows))
    sizes = [
        len(schedule.cut(index, 0.0, draining=False).taken)
        for index in range(len(schedule.replicas))
        if schedule.pending
    ]
    assert not schedule.pending
    return sizes


def test_free_devices_share_what_waits_where_rows_are_what_costs() -> None:
    assert cut_all(devices(2, fixed=0.0001, each=0.010), rows=10) == [5, 5]


def test_one_takes_nearly_all_of_it_where_a_batch_costs_the_same_whatever_is_in_it() -> None:
    first, second = cut_all(devices(2, fixed=0.010, each=0.0001), rows=10)
    assert first >= 8
    assert second == 10 - first


def test_what_is_left_for_another_is_said() -> None:
    schedule = devices(2, fixed=0.0001, each=0.010)
    add(schedule, some(10))
    assert schedule.cut(0, 0.0, draining=False).reason == "share"


def test_a_slow_device_leaves_to_a_fast_one_what_that_will_have_done_sooner() -> None:
    schedule = Schedule(Limits(), 2)
    for device, seconds in zip(schedule.replicas, (0.010, 0.100), strict=True):
        device.came_up([(size, size, seconds + 0.001 * size) for size in (1, 4, 16)])
    assert dispatch.soonest([1, 0], schedule.replicas) == 0
    add(schedule, some(4))
    schedule.cut(0, 0.0, draining=False)
    add(schedule, some(1))
    # It would take 101 ms, and the other is free again in 13: unless that turns out to be stuck.
    assert schedule.due(1, 0.001, draining=False) == pytest.approx(0.014 + 0.100, rel=0.01)
    assert schedule.due(1, 0.120, draining=False) == NOW
    assert len(schedule.cut(1, 0.120, draining=False).taken) == 1


def test_a_slow_device_is_no_help_to_who_asks_to_come_in() -> None:
    def waits(*speeds: float) -> float:
        schedule = Schedule(Limits(max_batch_size=10, max_queue_size=100), len(speeds))
        for device, seconds in zip(schedule.replicas, speeds, strict=True):
            device.came_up([(size, size, seconds * (1 + size)) for size in (1, 4, 16)])
        add(schedule, some(100))
        refused = schedule.refusal(some(1), 0.0)
        assert refused is not None
        return refused.retry_after

    assert waits(0.01, 0.01) == pytest.approx(waits(0.01) / 2, rel=0.01)
    assert waits(0.01, 0.1) == waits(0.01)


def test_a_slow_device_leaves_to_a_fast_one_what_comes_while_both_are_free() -> None:
    schedule = Schedule(Limits(), 2)
    for device, seconds in zip(schedule.replicas, (0.010, 0.100), strict=True):
        device.came_up([(size, size, seconds + 0.001 * size) for size in (1, 4, 16)])
    add(schedule, some(1))
    assert schedule.due(1, 0.0, draining=False) == math.inf  # even if it happens to look first
    assert schedule.due(0, 0.0, draining=False) == NOW


def test_a_slow_device_cuts_nothing_ahead_that_a_fast_one_will_have_done_sooner() -> None:
    schedule = Schedule(Limits(max_batch_size=4), 2)
    for device, seconds in zip(schedule.replicas, (0.010, 0.100), strict=True):
        device.came_up([(size, size, seconds + 0.001 * size) for size in (1, 4, 16)])
    schedule.handoff = HANDOFF
    add(schedule, some(4))
    schedule.cut(1, 0.0, draining=False)
    add(schedule, some(4))
    schedule.cut(0, 0.1, draining=False)
    while schedule.pending:
        schedule.pending.remove(schedule.pending.oldest)
    add(schedule, some(4))
    free_at = schedule.replicas[1].free_at
    assert schedule.early_at(1, free_at - 1e-4, draining=False) == math.inf


def test_what_a_device_takes_does_not_depend_on_how_long_the_machine_has_been_up() -> None:
    taken = []
    for uptime in (0.0, 1e8):
        schedule = devices(4, fixed=0.010, each=0.0)
        add(schedule, some(10))
        taken.append(len(schedule.cut(0, uptime, draining=False).taken))
    assert taken[0] == taken[1] > 1


def test_a_device_waits_for_those_just_answered_though_a_far_slower_one_is_idle() -> None:
    schedule = Schedule(Limits(), 2)
    for device, seconds in zip(schedule.replicas, (0.010, 0.500), strict=True):
        device.came_up([(size, size, seconds + 0.001 * size) for size in (1, 4, 16)])
    add(schedule, some(2))
    schedule.cut(0, 0.0, draining=False)
    ended = {"size": 2, "tokens": 2, "useful_tokens": 2, "seconds": 0.012, "released": 2}
    schedule.ended(0, 0.012, began=0.0, **ended)  # type: ignore[arg-type]
    add(schedule, some(1, arrival=0.012))
    assert 0.012 < schedule.due(0, 0.012, draining=False) < 0.014
    assert schedule.due(1, 0.012, draining=False) == math.inf


def test_a_device_that_has_not_run_yet_makes_no_other_a_slow_one() -> None:
    schedule = Schedule(Limits(max_batch_size=10, max_queue_size=100), 2)
    schedule.replicas[0].came_up([(size, size, 0.01 * (1 + size)) for size in (1, 4, 16)])
    schedule.replicas[1].came_up(())
    assert not dispatch.is_slow(schedule.replicas[0], schedule.replicas)
    add(schedule, some(50))
    late = schedule.refusal(some(1, deadline=0.05), 0.0)
    assert late is not None


# What has no chance


def test_a_prediction_that_is_far_too_long_is_corrected_even_if_only_such_calls_come() -> None:
    """The device was measured while something else had it."""
    limits = Limits(max_batch_size=64)
    device = Device(limits, each=0.01)
    device.weights = (0.001, 0.001, 0.0)  # from now on
    outcomes = []
    for _ in range(120):  # one a minute
        device.now += 60.0
        calls = [request(arrival=device.now, deadline=device.now + 1.0) for _ in range(256)]
        refused = device.schedule.admit(calls, device.now)
        outcomes.append(None if refused is None else type(refused))
        done = 0
        while device.schedule.pending.rows:
            done += len(device.run().taken)
        assert done == (256 if refused is None else 0)
    first = outcomes.index(None)
    assert set(outcomes[:first]) == {NeverInTime}
    assert first <= 10  # minutes
    assert set(outcomes[first:]) == {None}
