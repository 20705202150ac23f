"""What the settings make of a machine; with one worker that is really put in its place."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from batcher import Engine
from batcher.runner import RunnerInfo
from service import main as launch
from service.models import RunnerConfig, placed
from service.placement import cuda, memory
from service.placement import layout as placing
from service.placement.cuda import Gpu, Gpus
from service.placement.layout import Layout, plan_layout
from service.placement.memory import MIB, Need
from service.placement.replica_count import Placement, Refused
from service.processes.build import runner_factories
from service.settings import Settings
from tests.service.configs import runner_config


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight cores and no GPU, with 8 GiB free."""
    monkeypatch.setattr(placing, "physical_cores", lambda: [(number,) for number in range(8)])
    monkeypatch.setattr(placing, "available_cores", lambda: 8)
    monkeypatch.setattr(placing, "free_host_memory", lambda: 8192 * MIB)
    monkeypatch.setattr(cuda, "find", lambda: Gpus())


def cards(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    each = tuple(Gpu("Card", mib * MIB, f"id-{n}") for n, mib in enumerate(free))
    monkeypatch.setattr(cuda, "find", lambda: Gpus(each))


def fake_model(folder: Path, weights: int) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(weights)
    return str(folder)


def devices(layout: Layout) -> list[str]:
    return [each.device for each in layout.placements]


def test_auto_starts_one_replica_on_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices(plan_layout(Settings())) == ["cpu"]
    cards(monkeypatch, 8000, 8000)
    found = plan_layout(Settings())
    assert devices(found) == ["cuda:0", "cuda:1"]
    assert [each.gpu_uuid for each in found.placements] == ["id-0", "id-1"]


@pytest.mark.parametrize("runner", ["simulated", "my.module:Runner"])
def test_what_auto_is_for_another_runner_is_up_to_it(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, 8000, 8000)
    assert plan_layout(Settings(runner=runner)).placements == (Placement("auto"),)
    assert devices(plan_layout(Settings(runner=runner, replicas=2))) == ["auto"] * 2
    assert devices(plan_layout(Settings(runner=runner, replicas="auto"))) == ["auto"]


def test_an_estimate_is_replaced_by_what_was_noted(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "model", 3000 * MIB)
    given = Settings(model=model, replicas="auto", cache_dir=str(tmp_path / "cache"))
    estimated = plan_layout(given)
    assert devices(estimated) == ["cpu"] * 2
    assert estimated.notes == (
        "2 replicas on cpu, each of 3,712 MiB at most (estimated from the size of its weights);"
        " 8,192 MiB are free",
    )
    note = estimated.placements[0].memory_note
    assert memory.note(note, 3000 * MIB, 5000 * MIB) == ""
    measured = plan_layout(given)
    assert devices(measured) == ["cpu"]
    assert "5,000 MiB at most (as measured)" in measured.notes[0]
    Path(note).write_text('{"least": "nonsense"}')
    assert plan_layout(given) == estimated
    other = Settings(model=model, dtype="bfloat16", cache_dir=str(tmp_path / "cache"))
    assert plan_layout(other).placements[0].memory_note != note


def test_the_host_memory_of_a_worker_on_a_gpu_is_estimated_until_it_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cards(monkeypatch, 80_000)
    model = fake_model(tmp_path / "model", 3000 * MIB)
    given = Settings(model=model, replicas="auto", cache_dir=str(tmp_path / "cache"))
    estimated = plan_layout(given)
    assert devices(estimated) == ["cuda:0"] * 2  # of 3,712 MiB each, in 7,680
    note = estimated.placements[0].memory_note
    assert memory.note(note, 3000 * MIB, 4000 * MIB) == ""  # as once, without the host's
    assert devices(plan_layout(given)) == ["cuda:0"] * 2
    assert memory.note(note, 3000 * MIB, 4000 * MIB, host=2000 * MIB) == ""
    assert devices(plan_layout(given)) == ["cuda:0"] * 3
    monkeypatch.setattr(placing, "free_host_memory", lambda: 2500 * MIB)
    with pytest.raises(Refused, match="too little host memory for cuda:0: a replica needs 2,000"):
        plan_layout(given)


def test_nothing_is_noted_without_a_cache(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "model", 1)
    assert plan_layout(Settings(model=model, cache_dir="")).placements[0].memory_note == ""


def test_a_model_that_must_be_fetched_first_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placing, "find_local", lambda name: None)
    found = plan_layout(Settings(model="some/model", replicas=50))
    assert len(found.placements) == 50
    assert "known once the model has been downloaded" in found.notes[0]


def test_replicas_that_are_threads_of_this_process_do_not_bind_it() -> None:
    given = Settings(runner="simulated", device="cpu", replicas=2, isolation="thread")
    assert plan_layout(given).placements == (Placement("cpu", threads=3),) * 2


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--device", "cuda:9"],
            "BATCHER_DEVICE=cuda:9: there is no device 'cuda:9': this machine has no CUDA device",
        ),
        (
            ["--device", "cpu", "--replicas", "99"],
            "too little memory on cpu: 99 replicas need ",
        ),
        (
            ["--memory-reserve-mb", "8192"],
            "too little memory on cpu: a replica needs ",
        ),
    ],
)
def test_what_the_machine_has_not_ends_in_one_line(
    flags: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("service.main.start_logging", lambda options: None)
    assert launch.main([*flags, "--port", "0"]) == 3
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(f"batcher: {line}")


def test_print_config_says_where_each_replica_goes(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--runner", "simulated", "--device", "cpu", "--replicas", "2", "--print-config"]
    assert launch.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "replica 0 runs on cpu, cores 2-4, 3 threads",
        "replica 1 runs on cpu, cores 5-7, 3 threads",
    ]


class Warm:
    """A runner that has measured its profile just now."""

    def warm_up(self) -> dict[str, object]:
        return {"profile_source": "measured"}

    def run(self, payloads: Sequence[Any]) -> list[Any]:
        return list(payloads)

    def close(self) -> None:
        pass


def test_a_worker_is_bound_before_its_runner_is_made_and_notes_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps: list[object] = []
    note = str(tmp_path / "notes" / "need.json")

    def make(name: str, config: RunnerConfig) -> Warm:
        steps.append(name)
        return Warm()

    monkeypatch.setattr(os, "sched_setaffinity", lambda *bound: steps.append(bound))
    monkeypatch.setattr(placed, "create_runner", make)
    monkeypatch.setattr(memory, "measure_host", lambda: (10, 30))
    config = runner_config("m", device="cpu", cores=(1, 2, 5), memory_note=note)
    runner = placed.create_pinned("transformers", config)
    assert steps == [(0, (1, 2, 5)), "transformers"]
    assert runner.warm_up() == RunnerInfo(
        profile_source="measured", placed_on="cpu", cores="1-2,5", memory_bytes=30
    )
    assert runner.run(["a"]) == ["a"]
    assert runner.launch is None  # type: ignore[attr-defined]
    assert memory.noted(note) == Need(10, 30, note)


def test_a_worker_on_a_gpu_notes_what_it_took_of_the_host_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = str(tmp_path / "need.json")
    monkeypatch.setattr(placed, "create_runner", lambda name, config: Warm())
    monkeypatch.setattr(memory, "measure_host", lambda: (10, 30))
    monkeypatch.setattr(memory, "measure_cuda", lambda device: (500, 700))
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # asked for only where it is
    runner = placed.create_pinned("x", runner_config("m", device="cuda:0", memory_note=note))
    assert RunnerInfo.from_facts(runner.warm_up()).memory_bytes == 700
    assert memory.noted(note) == Need(500, 700, note, host=30)


def test_a_profile_that_was_only_read_is_no_measure_of_the_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Read(Warm):
        def warm_up(self) -> dict[str, object]:
            return {"profile_source": "cache"}

    monkeypatch.setattr(placed, "create_runner", lambda name, config: Read())
    note = str(tmp_path / "need.json")
    placed.create_pinned("transformers", runner_config("m", memory_note=note)).warm_up()
    assert not Path(note).exists()


def test_what_real_batches_took_beyond_the_profile_is_noted_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placed, "create_runner", lambda name, config: Warm())
    note = str(tmp_path / "need.json")
    runner = placed.create_pinned("x", runner_config("m", device="cpu", memory_note=note))
    runner.close()
    assert not Path(note).exists()  # nothing has been measured
    for most, noted in ((50, 50), (40, 50), (70, 70)):
        if not Path(note).exists():
            memory.note(note, 10, 30)
        monkeypatch.setattr(memory, "measure_host", lambda most=most: (20, most))
        runner.close()
        assert memory.noted(note) == Need(10, noted, note)


def test_a_runner_that_can_launch_once_it_is_warm_launches_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Launching(Warm):
        launch: Any = None

        def warm_up(self) -> dict[str, object]:
            self.launch = lambda payloads: lambda: payloads
            return super().warm_up()

    monkeypatch.setattr(placed, "create_runner", lambda name, config: Launching())
    made: Any = placed.create_pinned("x", runner_config("m"))
    made.warm_up()
    assert made.launch(["a"])() == ["a"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_workers_of_the_simulated_runner_have_no_core_in_common() -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    layout = Layout((Placement("cpu", (first,), 1), Placement("cpu", (second,), 1)))

    async def start() -> list[Any]:
        engine = Engine(runner_factories(Settings(runner="simulated"), layout))
        try:
            await engine.start()
            for _ in range(2):
                await asyncio.gather(*(engine.submit("a") for _ in range(2)))
            snapshot = await engine.snapshot()
            while not all(each.up for each in snapshot.replicas):
                await engine.submit("the other comes up meanwhile")
                snapshot = await engine.snapshot()
            infos = [each.info for each in snapshot.replicas]
            return [(each, os.sched_getaffinity(each.pid or 0)) for each in infos]
        finally:
            await engine.close()

    (one, its_cores), (other, others_cores) = asyncio.run(asyncio.wait_for(start(), 60))
    assert (its_cores, others_cores) == ({first}, {second})
    assert (one.cores, other.cores) == (str(first), str(second))
    assert all(10 * MIB < (each.memory_bytes or 0) < 2000 * MIB for each in (one, other))
