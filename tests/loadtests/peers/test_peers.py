"""The comparison with other servers: its order, its figures, its tables, and that wrong is seen."""

import json
import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from loadtests.drivers.target import Target
from loadtests.drivers.wrk import WrkReport
from loadtests.peers import catalogue, install, measure, schedule, serving, tables
from loadtests.peers.options import LOADS, Options
from loadtests.peers.schedule import Point, Visit
from loadtests.servers.launch import Server

CLOSED = Point("ours", "simulated", "closed", 64, 0.0, 0, 1000.0, 5, 9, 10, 0, 2000, 0.5, 100)
OPEN = replace(CLOSED, kind="open", level=300.0, share=0.3)
LOADS_OF = {"ours": LOADS, "mosec": LOADS, "only-default": ("default",)}


def plan(repeats: int = 3, loads: tuple[str, ...] = LOADS) -> list[Visit]:
    return list(schedule.visits(LOADS_OF, loads, repeats, (1, 64), schedule.SHARES))


@pytest.mark.parametrize("repeats", [1, 2, 3, 5])
def test_every_server_is_measured_as_often_as_the_others_in_each_way(repeats: int) -> None:
    counted: dict[tuple[str, str, str, float], list[int]] = {}
    for visit in plan(repeats):
        closed = [("closed", callers, visit.repeat) for callers in visit.callers]
        open_ = [("open", share, n) for n in visit.opens for share in visit.shares]
        for kind, level, number in closed + open_:
            counted.setdefault((visit.peer, visit.load, kind, level), []).append(number)
    numbers = list(range(repeats)), list(range(1, repeats + 1))
    assert all(each == numbers[kind == "open"] for (_, _, kind, _), each in counted.items())
    assert len(counted) == 2 * (2 + 4) + 3 * (2 + 3)


def test_no_rate_is_asked_for_before_every_server_has_had_its_closed_loop() -> None:
    for load in LOADS:
        order = [visit for visit in plan() if visit.load == load]
        first_open = next(at for at, visit in enumerate(order) if visit.shares)
        assert {visit.peer for visit in order[:first_open]} == {
            name for name, loads in LOADS_OF.items() if load in loads
        }


def test_each_round_begins_with_another_server() -> None:
    rounds = list(plan(loads=("default",)))
    assert [visit.peer for visit in rounds[::3]] == ["ours", "mosec", "only-default"]


def test_rates_are_shares_of_the_best_of_the_first_round_and_do_not_move_later() -> None:
    points = [CLOSED, replace(CLOSED, peer="mosec", per_s=2345.6)]
    assert schedule.rate_of(points, "simulated", 0.3) == 704.0
    points.append(replace(CLOSED, peer="mosec", repeat=1, per_s=9999.0))
    points.append(replace(CLOSED, peer="mosec", load="default", per_s=9999.0))
    assert schedule.rate_of(points, "simulated", 0.3) == 704.0


def test_a_rate_far_above_what_a_server_reached_is_not_asked_for() -> None:
    points = [CLOSED, replace(CLOSED, peer="mosec", per_s=5000.0)]
    visit = Visit("ours", "simulated", 1, (), (0.2, 0.3, 0.9))
    assert measure.missing_shares(visit, points, 1) == [0.2]
    assert measure.missing_shares(replace(visit, peer="mosec"), points, 1) == [0.2, 0.3, 0.9]


def test_a_resumed_run_measures_only_what_is_missing() -> None:
    visit = Visit("ours", "simulated", 0, (1, 64), (0.3,))
    assert measure.missing_callers(visit, [CLOSED]) == [1]
    assert measure.missing_callers(replace(visit, repeat=1), [CLOSED]) == [1, 64]
    done = [replace(CLOSED, per_s=1000.0), OPEN]
    assert measure.missing_shares(visit, done, 0) == []


def test_points_come_back_from_disk_as_they_were(tmp_path) -> None:
    from dataclasses import asdict

    from loadtests.peers.command import POINTS, read_points

    assert read_points(tmp_path / POINTS) == []
    lines = "".join(json.dumps(asdict(point)) + "\n" for point in (CLOSED, OPEN))
    (tmp_path / POINTS).write_text(lines)
    assert read_points(tmp_path / POINTS) == [CLOSED, OPEN]
    assert read_points(tmp_path / POINTS)[1].key == OPEN.key


def test_the_first_of_each_column_is_bold_and_medians_are_of_the_repeats() -> None:
    points = [
        *(replace(CLOSED, repeat=n, per_s=rate) for n, rate in enumerate((900.0, 1000.0, 5000.0))),
        *(replace(CLOSED, peer="mosec", repeat=n, per_s=2000.0) for n in range(3)),
        replace(OPEN, p95_ms=7.25),
        replace(OPEN, peer="mosec", p95_ms=9.0),
    ]
    rows = tables.table(points, ["ours", "mosec"], "simulated").splitlines()
    assert rows[0] == "| server | 64 callers, req/s | 300/s, p95 ms |"
    assert rows[2:] == ["| ours | 1,000 | **7.2** |", "| mosec | **2,000** | 9.0 |"]
    assert tables.behind(points, ["ours", "mosec"], ["simulated"]) == [
        "simulated, 64 callers, req/s: mosec 2,000, ours 1,000"
    ]


def test_nobody_is_ahead_on_a_line_where_ours_was_not_measured_but_where_it_cannot_follow() -> None:
    mosec = replace(CLOSED, peer="mosec", per_s=4000.0)
    points = [mosec, replace(OPEN, peer="mosec", p95_ms=9.0)]
    assert tables.behind(points, ["ours", "mosec"], ["simulated"]) == []
    points.append(replace(CLOSED, level=8, per_s=100.0))
    assert tables.behind(points, ["ours", "mosec"], ["simulated"]) == [
        "simulated, 300/s, p95 ms: mosec 9.0, ours over"
    ]


def test_what_failed_is_said_and_cannot_be_first() -> None:
    points = [replace(OPEN, p95_ms=50.0), replace(OPEN, peer="mosec", p95_ms=2.0, failed=1000)]
    rows = tables.table(points, ["ours", "mosec"], "simulated").splitlines()
    assert rows[2:] == ["| ours | **50.0** |", "| mosec | 2.0 (50% failed) |"]
    refusing = replace(CLOSED, peer="mosec", per_s=9000.0, failed=1900)
    rows = tables.table([CLOSED, refusing], ["ours", "mosec"], "simulated").splitlines()
    assert rows[2:] == ["| ours | **1,000** |", "| mosec | 9,000 (95% failed) |"]
    assert schedule.best([CLOSED, refusing], "simulated") == 1000.0
    assert schedule.capacity([refusing], "mosec", "simulated") == pytest.approx(450.0)


def test_a_rate_over_a_servers_capacity_is_called_so() -> None:
    points = [
        replace(CLOSED, peer="mosec", per_s=4000.0),
        replace(CLOSED, per_s=100.0),
        replace(OPEN, peer="mosec"),
    ]
    assert tables.table(points, ["ours", "mosec"], "simulated").splitlines()[2].endswith("| over |")


def test_the_cost_of_a_request_is_cores_over_rate() -> None:
    row = tables.cost([CLOSED], ["ours"], "simulated", 64).splitlines()[-1]
    assert row == "| ours | 1,000 | 500 | 0.50 | 100 |"


def test_a_peer_that_did_not_run_is_listed_with_the_reason() -> None:
    peer = catalogue.named(["mosec"])[0]
    row = tables.catalogue([peer], {"mosec": {}}, {"mosec": "no wheel"}).splitlines()[-1]
    assert row.startswith("| mosec |")
    assert row.endswith("| not run: no wheel |")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[[1.0, 0.0]]", ""),
        (b"[[1.0, 0.00001]]", ""),
        (b"[[0.0, 1.0]]", "off by 1"),
        (b"[[1.0, NaN]]", "off by nan"),
        (b"[[1.0]]", "(1,) numbers where (2,) are right"),
        (b"[]", "cannot be read"),
        (b"<html>", "cannot be read"),
    ],
)
def test_an_answer_that_is_not_the_models_is_seen(body: bytes, reason: str) -> None:
    right = np.asarray([1.0, 0.0], dtype=np.float32)
    said = serving.differs(catalogue.PEERS[0], body, right)
    assert said.startswith(reason) if reason else said == ""


@pytest.mark.parametrize("peer", catalogue.PEERS, ids=lambda peer: peer.name)
def test_each_peers_body_is_one_line_that_carries_the_text(peer: catalogue.Peer) -> None:
    body = peer.body('Two lines,\n"quoted", and 5 €')
    assert b"\n" not in body
    assert 'Two lines,\\n\\"quoted\\", and 5 €' in body.decode()
    json.loads(body)


def test_names_are_unique_versions_pinned_and_an_unknown_name_is_refused() -> None:
    names = [peer.name for peer in catalogue.PEERS]
    assert len(set(names)) == len(names)
    assert all("==" in peer.requirements[0] for peer in catalogue.PEERS if peer.requirements)
    with pytest.raises(ValueError, match="no peer triton"):
        catalogue.named(["ours", "triton"])


def test_a_measurement_begins_when_the_server_is_through_with_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = list[str]()
    monkeypatch.setattr(
        measure.wrk, "post_bodies", lambda *given: steps.append("load") or WrkReport(1.0, 0)
    )
    monkeypatch.setattr(
        measure.closedloop, "drive", lambda *given, most: steps.append(f"{most} answered")
    )
    process = SimpleNamespace(pid=os.getpid())
    server = Server(process, Target("127.0.0.1", 1), Path("log"))  # type: ignore[arg-type]
    bench = measure.Bench(catalogue.PEERS[0], server, ["a text"], 1.0)
    bench.warm()
    bench.closed(Visit("ours", "default", 0, (1,), ()), 1)
    assert steps == ["load", "1 answered"] * 2


def test_options_survive_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(port=1, load="simulated", threads=3, max_wait_ms=0.5)
    for name, value in options.environment().items():
        monkeypatch.setenv(name, value)
    assert Options.from_environment() == options


def test_every_process_that_descends_from_a_start_is_found_by_its_mark() -> None:
    mark = uuid.uuid4().hex
    command, environment = ["cat"], os.environ | {serving.MARK: mark}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"up?\n")
        process.stdin.flush()
        process.stdout.readline()  # its environment is not there before it has come this far
        assert serving.marked(mark) == [process.pid]


def test_a_bound_is_dropped_only_from_what_is_loosened() -> None:
    assert install.loose("certifi>=2026.10.19", ["certifi"]) == "certifi"
    assert install.loose("attrs>=22.2.0", ["certifi"]) == "attrs>=22.2.0"
    assert install.loose("uvicorn[standard] ; extra", ["uvicorn"]) == "uvicorn"


def test_the_reason_of_a_failed_installation_is_pips_last_error() -> None:
    errors = "WARNING: x\nERROR: Could not find a version\nERROR: No matching y\n[notice] z\n"
    assert install.why(errors) == "ERROR: No matching y"
    assert install.why("") == "pip failed and said nothing"


def test_a_closed_loop_takes_whole_seconds_and_half_as_many_with_few_callers() -> None:
    assert [schedule.closed_seconds(n, 2.0) for n in (1, 8, 64, 256)] == [1, 1, 2, 2]
    assert [schedule.closed_seconds(n, 1.0) for n in (1, 64)] == [1, 1]
    visits = [Visit("ours", "default", 2, (1, 64), (0.3, 0.6), (2, 3))]
    assert schedule.seconds_of(visits, 2.0, 8.0) == pytest.approx(8 + 1.3 + 2.3 + 2.8 * 2)


def test_nothing_is_installed_for_a_peer_whose_programs_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.shutil, "which", lambda program: None)
    assert install.main([str(tmp_path), "--only", "torchserve"]) == 0
    told = capsys.readouterr().out
    assert "torchserve: could not be installed: java is not on this machine" in told
    assert list(tmp_path.iterdir()) == []
