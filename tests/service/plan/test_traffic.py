"""What the planner sends through the simulation: recorded or drawn, at the rate asked for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from service.plan.traffic import BadTraffic, Lengths, Traffic, read_arrivals

FOREVER = float("inf")


def file(folder: Path, text: str) -> Path:
    path = folder / "given"
    path.write_text(text, encoding="utf-8")
    return path


def lengths_of(spec: str, count: int = 20_000) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return Traffic(Lengths.parse(spec), FOREVER, seed=1).lengths_seen(count)


def test_poisson_arrivals_come_at_the_rate_and_with_the_deadline() -> None:
    requests = Traffic(Lengths.fixed(8), deadline=0.5, seed=1).requests(200.0, 20_000)
    assert len(requests) / requests[-1].at == pytest.approx(200.0, rel=0.02)
    assert {request.cost for request in requests} == {8}
    assert all(request.deadline == request.at + 0.5 for request in requests)


def test_two_rates_share_their_luck() -> None:
    traffic = Traffic(Lengths.fixed(8), FOREVER, seed=1)
    slow, fast = (traffic.requests(rate, 100) for rate in (10.0, 40.0))
    assert [request.at for request in slow] == pytest.approx([4 * one.at for one in fast])


def test_a_seed_is_a_traffic() -> None:
    first, again, other = (
        Traffic(Lengths.parse("lognormal:16:1"), FOREVER, seed).requests(10.0, 50)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_recorded_arrivals_keep_their_bursts_and_take_the_rate() -> None:
    traffic = Traffic(Lengths.fixed(8), FOREVER, seed=1, gaps=(0.0, 0.0, 3.0))
    requests = traffic.requests(100.0, 300)
    gaps = np.diff([request.at for request in requests])
    assert len(requests) / requests[-1].at == pytest.approx(100.0)
    assert sorted({round(float(gap), 9) for gap in gaps}) == [0.0, 0.03]


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        (
            "TIMESTAMP,Tokens\n2023-11-16 18:15:46.5000000,3\n2023-11-16 18:15:48.7500000,4\n",
            [2.25],
        ),
        ("Tokens,TIMESTAMP\n3,10.5\n4,11\n5,14\n", [0.5, 3.0]),
        ("1\n4\n4.5\n", [3.0, 0.5]),
        ("4\n1\n\n4.5\n", [3.0, 0.5]),  # out of order
        ("\ufeff1\n4\n", [3.0]),
        ("\ufeffTIMESTAMP,x\n1,2\n4,2\n", [3.0]),
        ('"x","TIMESTAMP"\n"a, b","1"\n"c","4"\n', [3.0]),
        ('x, "TIMESTAMP"\na, "1"\nb, "4"\n', [3.0]),
        (
            "TIMESTAMP\n2023-11-16T18:15:46.5000000Z\n2023-11-16 19:15:48.25+01:00\n"
            "2023-11-16 18:15:49.2500001+00:00\n2023-11-16 18:15:50\n",  # without a zone: UTC
            [1.75, 1.0, 0.75],
        ),
    ],
)
def test_recorded_arrivals_are_dates_or_seconds(
    tmp_path: Path, text: str, gaps: list[float]
) -> None:
    assert read_arrivals(file(tmp_path, text)) == pytest.approx(gaps)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("1\n", "at least two"),
        ("1\n1\n", "different times"),
        ("1\nsoon\n", "line 2: 'soon' is not a number"),
        ("1\nnan\n", "line 2"),
        ("when,what\n1,2\n", "TIMESTAMP"),
        ("TIMESTAMP,x\n2023-11-16 18:15:46,1\nlater,1\n", "line 3: 'later' is neither a date"),
        ("x,TIMESTAMP\n1\n", "line 2: '' is neither a date"),
        ("TIMESTAMP,x\ninf,1\n2,2\n", "line 2: 'inf'"),
    ],
)
def test_a_file_of_arrivals_that_is_none_is_told(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadTraffic, match=why):
        read_arrivals(file(tmp_path, text))


def test_dates_without_a_zone_know_no_summer_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        text = "TIMESTAMP\n2023-03-26 01:30:00\n2023-03-26 03:30:00\n"  # the night of the change
        assert read_arrivals(file(tmp_path, text)) == pytest.approx([7200.0])
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match="No such file"):
        read_arrivals(tmp_path / "missing")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadTraffic, match="not a text file"):
        read_arrivals(tmp_path / "picture")


def test_lognormal_lengths_have_the_median_and_the_longest_asked_for() -> None:
    drawn = lengths_of("lognormal:16:1:100")
    assert np.median(drawn) == pytest.approx(16, abs=1)
    assert (drawn.min(), drawn.max()) == (1, 100)
    assert lengths_of("lognormal:400:1").max() == 512


@pytest.mark.parametrize("line", ["0", "8.5", "65537", "1e300"])
def test_a_length_in_a_file_is_whole_and_not_too_long(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadTraffic, match="line 2"):
        Lengths.parse(str(file(tmp_path, f"8\n{line}\n")))


def test_lengths_of_a_file_are_drawn_as_often_as_they_are_in_it(tmp_path: Path) -> None:
    drawn = lengths_of(str(file(tmp_path, "8\n8\n8\n512\n")))
    assert set(drawn.tolist()) == {8, 512}
    assert (drawn == 8).mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    "spec",
    [
        "fixed:",
        "fixed:0",
        "fixed:x",
        "fixed:0.2",
        "fixed:1e300",
        "lognormal:16:1:70000",
        "lognormal:0.5:1",
        "lognormal:16",
        "lognormal:16:0",
        "lognormal:16:1:0.5",
        "gone",
    ],
)
def test_lengths_that_are_none_are_told(spec: str) -> None:
    with pytest.raises(BadTraffic):
        Lengths.parse(spec)
