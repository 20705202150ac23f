from __future__ import annotations

import pytest

from batcher.scheduling.replica_model import Utilisation


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
