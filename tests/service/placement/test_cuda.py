"""Which CUDA devices there are, as a child of this process tells it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.placement import cuda, memory
from service.placement.cuda import Gpu, Gpus

TRACE = (sys.executable,)  # is there


def test_without_a_trace_of_a_driver_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert cuda.find(("/no/such/device",)) == Gpus(why="this machine has no CUDA device")


def test_a_child_asks_torch_and_tells_what_it_sees() -> None:
    found = cuda.find(TRACE)
    assert found.each or found.why.endswith("sees no CUDA device")


def test_a_package_of_the_working_folder_is_not_taken_for_the_childs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service/__init__.py").write_text("raise SystemExit('the user's own')")
    monkeypatch.chdir(tmp_path)
    assert "cannot be asked" not in cuda.find(TRACE).why


def test_the_answer_is_the_last_line() -> None:
    told = {"gpus": [{"name": "Card", "free": 5, "uuid": "a"}], "why": ""}
    assert cuda.read("a warning\n" + json.dumps(told) + "\n").each == (Gpu("Card", 5, "a"),)
    for nonsense in ("", "x", "[]", '{"gpus": [{"nom": "Card"}], "why": ""}'):
        assert cuda.read(nonsense) == Gpus(
            why="the CUDA devices cannot be listed: the output of the query is not valid"
        )


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (subprocess.TimeoutExpired("python", 120), "took more than 120 s"),
        (subprocess.CalledProcessError(1, "python", stderr="x\nNo torch\n"), "listed: No torch"),
        (subprocess.CalledProcessError(-11, "python", stderr=""), "listed: exit code -11"),
        (OSError("too many processes"), "listed: too many processes"),
    ],
)
def test_a_child_that_fails_is_no_device_and_a_reason(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    found = cuda.find(TRACE)
    assert found.each == ()
    assert found.why.endswith(why)


def test_what_is_shared_with_others_is_no_part_of_what_a_process_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text("VmHWM:\t  900 kB\nVmRSS:\t  800 kB\nRssAnon:\t 500 kB\nRssFile:\t 300 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    assert memory.measure_host() == (500 * 1024, 600 * 1024)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert memory.measure_host() is None


def test_free_memory_is_what_both_the_machine_and_the_container_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 99 kB\nMemAvailable:   50 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    for allowed, free in ((None, 50 * 1024), (7, 7), (10**9, 50 * 1024)):
        monkeypatch.setattr(memory.cgroup, "free_memory", lambda allowed=allowed: allowed)
        assert memory.free_host_memory() == free
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory.cgroup, "free_memory", lambda: None)
    assert memory.free_host_memory() is None


def test_a_note_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    why = memory.note(str(tmp_path / "file" / "need.json"), 1, 2)
    assert "need.json cannot be saved" in why
    assert "\n" not in why
