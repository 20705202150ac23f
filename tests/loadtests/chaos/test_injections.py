"""Claims about faults that must prove that they happened."""

import asyncio
import os
import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from batcher.workers.pipe import NotAMessage, Pipe, Run, pack
from loadtests.chaos import invariants, resources, runners
from loadtests.chaos.bench import Bench
from loadtests.chaos.command import variant
from loadtests.chaos.injections import FOLDER, Injections, acknowledge, starts_are_blocked
from loadtests.chaos.proxy import Toxics, proxy
from loadtests.chaos.runners import Drilled, SpoiltMessages
from loadtests.chaos.scenario import REQUESTS, Scenario
from loadtests.chaos.table import TABLE
from loadtests.chaos.worker import DRILLED
from loadtests.drivers.target import Target
from service.models.config import ModelConfig, RunnerConfig, SimulatedConfig
from service.models.simulated import answers


def test_service_that_was_spared_its_fault_has_not_survived_it():
    wanted = {"garbage": 1, "SIGKILL": 2}
    [violation] = invariants.injected(wanted, Counter({"garbage": 3, "SIGKILL": 1}))
    assert str(violation) == "I7: SIGKILL was injected 1 times of 2"
    assert invariants.injected(wanted, Counter({"garbage": 1, "SIGKILL": 2})) == []


def test_scenarios_with_a_drill_demand_its_acknowledgement():
    rows = [row for row in TABLE if isinstance(row, Scenario)]
    drilled = [row for row in rows if row.drill or row.env == DRILLED]
    assert len(drilled) >= 10
    for row in rows:
        assert row.injects, row.id
    for row in drilled:
        assert row.injects != REQUESTS, row.id


def test_acknowledgements_are_counted_from_the_beginning_of_the_scenario(monkeypatch):
    injections = Injections()
    with injections.shared() as settings:
        monkeypatch.setenv(FOLDER, settings[FOLDER])
        acknowledge("garbage")
        injections.acknowledge("SIGKILL")
        injections.begin()
        assert injections.counts() == Counter()
        acknowledge("garbage")
        acknowledge("garbage")
        injections.acknowledge("SIGKILL")
    with injections.shared() as settings:  # The service was restarted.
        monkeypatch.setenv(FOLDER, settings[FOLDER])
        acknowledge("garbage")
        assert injections.counts() == Counter(garbage=3, SIGKILL=1)


def test_standing_fault_counts_in_every_scenario_of_its_service(monkeypatch):
    injections = Injections()
    with injections.shared() as settings:
        monkeypatch.setenv(FOLDER, settings[FOLDER])
        acknowledge("no-room", standing=True)
        for _ in range(2):
            injections.begin()
            assert injections.counts() == Counter({"no-room": 1})


def test_starts_are_blocked_as_long_as_the_scenario_says(monkeypatch):
    injections = Injections()
    with injections.shared() as settings:
        monkeypatch.setenv(FOLDER, settings[FOLDER])
        with injections.starts_blocked():
            assert starts_are_blocked()
            assert injections.counts() == Counter()
        assert not starts_are_blocked()


@pytest.fixture
def ends(monkeypatch, tmp_path: Path):
    """A worker's pipe, its parent's, and the saboteur of the first."""
    monkeypatch.setattr(Pipe, "send", Pipe.send)  # Put back afterwards.
    monkeypatch.setenv(FOLDER, str(tmp_path))
    spoilt = SpoiltMessages()
    spoilt.install()
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(5)
        yield Pipe(here), Pipe(there), spoilt


def acknowledged(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_garbage_takes_the_place_of_one_message(ends, tmp_path: Path):
    worker, parent, spoilt = ends
    spoilt.ask("garbage")
    worker.send(pack(7, Run([])))
    with pytest.raises(NotAMessage):
        parent.receive()
    assert acknowledged(tmp_path) == {"garbage": 1}


def test_truncated_message_is_the_last_of_its_worker(ends, tmp_path: Path, monkeypatch):
    worker, parent, spoilt = ends
    monkeypatch.setattr(os, "_exit", lambda _: worker.close())
    spoilt.ask("truncated")
    worker.send(pack(7, Run([])))
    with pytest.raises(EOFError):
        parent.receive()
    assert acknowledged(tmp_path) == {"truncated": 1}


def test_each_message_comes_twice_for_a_while(ends, tmp_path: Path, monkeypatch):
    worker, parent, spoilt = ends
    spoilt.ask("twice")
    worker.send(pack(7, Run([])))
    assert [parent.receive()[0] for _ in range(2)] == [7, 7]
    monkeypatch.setattr(runners.time, "monotonic", lambda: float("inf"))
    worker.send(pack(8, Run([])))
    worker.send(pack(9, Run([])))
    assert [parent.receive()[0] for _ in range(2)] == [8, 9]
    assert acknowledged(tmp_path) == {"twice": 1}


def test_ragged_answer_is_the_culprits_alone(monkeypatch):
    monkeypatch.setattr(Pipe, "send", Pipe.send)  # Which the runner replaces.
    runner = Drilled(RunnerConfig(ModelConfig("simulated"), simulated=SimulatedConfig(fixed_ms=0)))
    mine, ragged = runner.run(["a text", "fault:shape"])
    assert np.array_equal(mine, answers(["a text"])[0])
    assert ragged == [[1.0], [2.0, 3.0]]


def test_drill_reaches_the_channel_of_a_real_worker():
    bench = Bench()
    try:
        bench.start(variant(DRILLED))
        bench.begin()
        calls = [bench.post(bench.text("fault:twice")), bench.post()]
        assert [call.status for call in calls] == [200, 200]
        assert invariants.injected({"twice": 2}, bench.injections.counts()) == []
    finally:
        bench.stop()


@pytest.mark.parametrize(
    ("toxics", "names"),
    [
        (Toxics(), set()),
        (Toxics(latency=0.001), {"latency"}),
        (Toxics(bandwidth=1e6), {"bandwidth"}),
        (Toxics(slice=1), {"slice"}),
        (Toxics(limit=3), {"limit"}),
        (Toxics(reset_after=3), {"reset_after"}),
    ],
)
def test_bad_network_says_what_it_did(toxics: Toxics, names: set[str]):
    async def through() -> Counter[str]:
        done: Counter[str] = Counter()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, proxy(Target(*server.sockets[0].getsockname()), toxics, done) as target:
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(b"hello")
            writer.write_eof()
            try:
                await reader.read()
            except ConnectionError:
                assert toxics.reset_after
            writer.close()
        return +done

    assert set(asyncio.run(asyncio.wait_for(through(), 10))) == names


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_file_of_shared_memory_would_be_seen():
    before = resources.read(os.getpid()).shared
    path = Path(f"/dev/shm/loadtests-{os.getpid()}")
    try:
        with path.open("w"):
            assert resources.read(os.getpid()).shared == before + 1
    finally:
        path.unlink()
