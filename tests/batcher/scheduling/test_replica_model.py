"""What is known of a replica: how large a batch may be, learned from what failed, in few failures,
and forgotten slowly; and for how long it was busy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batcher.scheduling.replica_model import MemoryCeiling, Utilisation

DAY = 86_400.0


def test_without_a_failure_everything_is_allowed() -> None:
    assert MemoryCeiling().allows(10**6, 10**9)


def test_a_batch_that_failed_is_not_allowed_again_nor_one_larger_both_ways() -> None:
    ceiling = MemoryCeiling()
    ceiling.failed(64, 16_384, now=0.0)
    assert not ceiling.allows(64, 16_384)
    assert not ceiling.allows(65, 20_000)
    assert ceiling.allows(32, 16_384)
    assert ceiling.allows(64, 8_192)


def test_the_bound_that_let_a_failure_through_is_the_one_that_is_lowered() -> None:
    ceiling = MemoryCeiling()
    ceiling.failed(64, 16_384, now=0.0)
    ceiling.failed(64, 8_000, now=0.0)
    assert (ceiling.size, ceiling.tokens) == (32, 4_000)
    ceiling.failed(20, 9_000, now=0.0)
    assert (ceiling.size, ceiling.tokens) == (10, 4_000)


@pytest.mark.parametrize(
    "fits",
    [
        lambda size, tokens: size <= 4,
        lambda size, tokens: tokens <= 1_000,
        lambda size, tokens: size <= 12 and tokens <= 3_000,
    ],
)
def test_whatever_the_limit_is_in_it_is_learned_in_few_failures(
    fits: Callable[[int, int], bool],
) -> None:
    ceiling, failures = MemoryCeiling(), 0
    for _ in range(20):
        for size in range(1, 65):
            for length in (1, 5, 30, 250):
                tokens = size * length
                if ceiling.allows(size, tokens) and size > 1 and not fits(size, tokens):
                    ceiling.failed(size, tokens, now=0.0)
                    failures += 1
    assert failures <= 16
    assert ceiling.allows(2, 2)


def test_long_after_a_failure_twice_as_much_is_tried() -> None:
    ceiling = MemoryCeiling()
    ceiling.failed(64, 6_400, now=0.0)
    ceiling.relax(599.0)
    assert ceiling.size == 32
    ceiling.relax(600.0)
    assert (ceiling.size, ceiling.tokens) == (64, 6_400)
    ceiling.relax(1_200.0)
    assert ceiling.size == 128


def test_after_a_try_that_failed_the_next_one_comes_later() -> None:
    ceiling = MemoryCeiling()
    ceiling.failed(64, 6_400, now=0.0)
    ceiling.relax(600.0)
    ceiling.failed(64, 6_400, now=700.0)
    assert ceiling.size == 32
    ceiling.relax(1_899.0)
    assert ceiling.size == 32
    ceiling.relax(1_900.0)
    assert ceiling.size == 64


def test_what_never_failed_is_never_relaxed() -> None:
    ceiling = MemoryCeiling()
    ceiling.relax(DAY)
    assert ceiling.allows(10**6, 10**9)


# Utilisation


def test_time_counts_from_the_begin_to_the_end_of_a_batch_and_while_it_runs() -> None:
    busy = Utilisation()
    assert busy.seconds(50.0) == 0.0
    busy.began(100.0)
    assert busy.seconds(103.0) == 3.0
    busy.ended(104.0)
    assert busy.seconds(110.0) == 4.0
    busy.began(110.0)
    assert busy.seconds(111.0) == 5.0


def test_batches_that_overlap_count_once() -> None:
    busy = Utilisation()
    busy.began(0.0)
    busy.began(1.0)
    busy.ended(2.0)
    busy.ended(3.0)
    assert busy.seconds(9.0) == 3.0


def test_the_share_is_that_of_the_time_since_the_first_batch_then_of_the_last_minute() -> None:
    busy = Utilisation()
    assert busy.share(5.0) == 0.0
    now = 1000.0
    for _ in range(10):
        busy.began(now)
        busy.ended(now + 0.5)
        now += 2.0
    assert busy.share(now) == pytest.approx(0.25, rel=0.05)
    busy.began(now)
    assert busy.share(now + 600.0) == pytest.approx(1.0, abs=0.001)  # the rest is long ago
    busy.ended(now + 600.0)
    assert busy.share(now + 660.0) == pytest.approx(0.37, abs=0.01)
