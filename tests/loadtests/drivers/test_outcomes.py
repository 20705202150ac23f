"""Claims about the summary of a run."""

import csv
import gzip
from pathlib import Path

import pytest

from loadtests.drivers import closedloop
from loadtests.drivers.http_client import Answer
from loadtests.drivers.openloop import Run
from loadtests.drivers.outcomes import (
    Outcome,
    batch_sizes,
    mean_batch,
    percentiles,
    summarise,
    write_raw,
)


def outcome(scheduled: float, latency: float, status: str = "200", lag: float = 0.0, timing=b""):
    one = Outcome(scheduled)
    one.sent, one.answered = scheduled + lag, scheduled + latency
    one.status, one.timing = status, timing
    return one


def test_percentile_is_a_latency_that_somebody_got():
    assert percentiles([1, 2, 3, 4], (50, 75, 95, 100)) == [3, 4, 4, 4]
    assert percentiles([], (50, 95)) == [0, 0]


def test_latency_counts_from_the_scheduled_time_not_from_the_late_send():
    summary = summarise([outcome(0, latency=0.5, lag=0.4)], 0, 1)
    assert summary.p50_ms == pytest.approx(500)
    assert summary.send_lag_p99_ms == pytest.approx(400)
    assert summary.late_driver


def test_lost_requests_count_with_the_time_they_had():
    answered = [outcome(n / 100, 0.01) for n in range(90)]
    lost = [Outcome(0.9 + n / 100) for n in range(10)]
    for one in lost:
        one.lose(at=8.0)
    summary = summarise(answered + lost, 0, 1)
    assert summary.p95_ms > 7000
    assert summary.answered_share == pytest.approx(0.9)
    assert summary.statuses == {"200": 90, "lost": 10}


def test_quick_refusals_do_not_flatter_the_latencies():
    busy = [outcome(n / 100, 1.0) for n in range(50)]
    refused = [outcome(n / 100, 0.001, "429") for n in range(50)]
    summary = summarise(busy + refused, 0, 1)
    assert summary.p50_ms == pytest.approx(1000)
    assert summary.answered_share == pytest.approx(0.5)


def test_warm_up_is_left_out_and_an_empty_run_is_an_error():
    outcomes = [outcome(0.1, 9.0), outcome(1.5, 0.2)]
    assert summarise(outcomes, 1, 2).max_ms == pytest.approx(200)
    with pytest.raises(ValueError, match="no request was due"):
        summarise(outcomes, 3, 4)


def test_answered_rate_is_over_the_time_that_answering_took():
    backlog = [outcome(n / 100, 10.0 - n / 100) for n in range(100)]
    assert summarise(backlog, 0, 1).answered_per_s == pytest.approx(10)


def test_an_answer_after_the_end_does_not_undo_a_loss():
    one = Outcome(0.0)
    one.lose(at=5.0)
    one.settle(Answer(status=200))
    assert one.status == "lost"
    assert one.latency == 5.0


def test_batches_are_counted_once_though_each_request_names_its_own():
    timing = b'queue;dur=1.5, inference;dur=3.25, batch;desc="size=%d tokens=9 reason=idle"'
    outcomes = [outcome(0, 1, timing=timing % 4) for _ in range(8)] + [
        outcome(0, 1, timing=timing % 1)
    ]
    assert batch_sizes(outcomes) == {1: 1, 4: 2}
    assert mean_batch(outcomes) == pytest.approx(3)
    assert outcomes[0].phases() == {"queue": 1.5, "inference": 3.25}
    assert mean_batch([outcome(0, 1)]) == 0


def test_throughput_counts_whole_batches():
    # A batch of 8 every second from 1 on, until 10.5: exactly 8/s, wherever the cuts fall.
    outcomes = [outcome(at - 1, 1.0) for at in range(1, 11) for _ in range(8)]
    run = Run(outcomes, begin=0.0, seconds=10.5)
    assert closedloop.throughput(run, skip=2.3) == pytest.approx(8)


def test_raw_file_has_one_line_a_request(tmp_path: Path):
    timing = b'queue;dur=1.5, inference;dur=3, batch;desc="size=2"'
    path = tmp_path / "run.csv.gz"
    write_raw(path, [outcome(10, 0.25, timing=timing), outcome(11, 1, "refused")], begin=10)
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["answered_s"] == "0.250000"
    assert (rows[0]["batch"], rows[0]["queue_ms"], rows[0]["inference_ms"]) == ("2", "1.5", "3.0")
    assert (rows[1]["status"], rows[1]["batch"]) == ("refused", "")
