"""Real worker processes. One test a promise; all waits end when the thing itself happens."""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batcher.clock import MonotonicClock
from batcher.errors import OutOfMemory, RunnerFailed, WorkerLost
from batcher.runner import RunnerFactory, RunnerInfo
from batcher.workers import process as worker
from batcher.workers.host import run_on
from batcher.workers.process import ProcessHost
from tests.batcher.runners import (
    DiesLoading,
    DoesNotLoad,
    Generates,
    HangsLoading,
    Launches,
    LeavesANote,
    LoadsOnce,
    NoFacts,
    Obedient,
    OddFacts,
    Returns,
    SaysWhatToChange,
    WrongFacts,
)
from tests.fakes import PATIENCE, LogWatch, children, join

ROOT = Path(__file__).parents[3]


class Hosted:
    """A process host, and what it said of its deaths."""

    def __init__(self, factory: RunnerFactory) -> None:
        self.deaths: list[str] = []
        self._died = threading.Semaphore(0)
        self.host = ProcessHost(factory, "worker-0", self._on_death)

    def _on_death(self, reason: str) -> None:
        self.deaths.append(reason)
        self._died.release()

    def until_dead(self) -> str:
        assert self._died.acquire(timeout=PATIENCE), "nobody noticed that the worker died"
        return self.deaths[-1]

    def start(self) -> int:
        """Returns the worker's process id."""
        pid = self.host.start().pid
        assert isinstance(pid, int)
        return pid

    def run(self, *payloads: Any) -> list[Any]:
        return list(run_on(self.host, payloads, PATIENCE).results)

    def in_thread(self, act: Callable[[], Any]) -> Callable[[], BaseException]:
        """Begins `act`; what comes back waits for it and returns what it raised."""
        raised: list[BaseException] = []

        def main() -> None:
            try:
                act()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=main, name="running")
        thread.start()

        def wait() -> BaseException:
            join(thread)
            assert raised, "it raised nothing"
            return raised[0]

        return wait


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    hosted = Hosted(Obedient)
    hosted.start()
    yield hosted
    hosted.host.stop()


def gone(pid: int) -> bool:
    """Waits for a process to end. One that is nobody's child any more is reaped by init."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


# Answers


def test_a_worker_answers_from_a_process_of_its_own(hosted: Hosted) -> None:
    (pid, echo) = hosted.run("pid", "a")
    assert echo == "a"
    assert pid in children()


def test_the_run_is_timed_where_it_happens(hosted: Hosted) -> None:
    assert 0.0 < run_on(hosted.host, ["a"], PATIENCE).seconds < 10.0


def test_the_info_of_the_runner_comes_with_the_process_id() -> None:
    host = ProcessHost(Obedient, "worker-0", lambda reason: None)
    try:
        info = host.start()
        assert info == RunnerInfo(model="echo", pid=host._process and host._process.pid)
    finally:
        host.stop()


def test_an_array_crosses_whole_and_is_one_result_a_row() -> None:
    numpy = pytest.importorskip("numpy")
    hosted = Hosted(partial(Returns, numpy.arange(6, dtype="float32").reshape(2, 3)))
    hosted.start()
    try:
        results = run_on(hosted.host, ["a", "b"], PATIENCE).results
        assert isinstance(results, numpy.ndarray)
        assert results.tolist() == [[0, 1, 2], [3, 4, 5]]
    finally:
        hosted.host.stop()


# What fails is the batch, and the worker lives on


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("raise", "^ValueError: a bad input$"),
        ("raise needy", "^Needy: its reason, 7$"),
        ("lambda", "the result cannot be sent: .*lambda"),
        ("local", "the result cannot be read: LookupError: what only the worker knows"),
        (lambda: None, "the batch cannot be sent to the worker: .*lambda"),
        ("unreadable", "the batch cannot be read: LookupError: what only the parent knows"),
        ("leaves", "the batch cannot be read: SystemExit: what only the parent knows"),
    ],
)
def test_what_goes_wrong_with_a_batch_is_its_error_and_the_worker_lives_on(
    hosted: Hosted, payload: Any, reason: str
) -> None:
    if payload in ("unreadable", "leaves"):
        payload = OnlyThere(LookupError if payload == "unreadable" else SystemExit)
    (pid,) = hosted.run("pid")
    with pytest.raises(RunnerFailed, match=reason):
        hosted.run("a", payload)
    assert hosted.run("pid", "b") == [pid, "b"]
    assert hosted.deaths == []


class OnlyThere:
    """A payload that no worker can read."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, (self.error, "what only the parent knows")


def _refuse(error: type[BaseException], what: str) -> None:
    raise error(what)


def test_an_exception_for_one_request_crosses_as_its_text_and_spares_the_others(
    hosted: Hosted,
) -> None:
    failed, fine = hosted.run("fail this one", "a")
    assert isinstance(failed, RunnerFailed)
    assert str(failed) == "Needy: its reason, 7"
    assert fine == "a"


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (Generates, "the runner returned generator, no sequence of results"),
        (partial(Returns, {"logits": 1}), "the runner returned dict, no sequence of results"),
        (partial(Returns, ["a", "b"]), "the runner returned 2 results for 1 inputs"),
    ],
)
def test_odd_results_are_the_batch_s_error(factory: RunnerFactory, reason: str) -> None:
    hosted = Hosted(factory)
    hosted.start()
    try:
        for _ in range(2):
            with pytest.raises(RunnerFailed, match=reason):
                hosted.run("a")
    finally:
        hosted.host.stop()


# Output


def test_what_a_worker_prints_reaches_the_log_under_its_name(hosted: Hosted, log: LogWatch) -> None:
    hosted.run(("print", "one\ntwo"), ("write", "three "), ("write", "and four\n"))
    log.wait_for("three and four")
    assert [line for name, line in log.lines if name == "batcher.worker-0"] == [
        "one",
        "two",
        "three and four",
    ]


def test_a_traceback_reaches_the_log(hosted: Hosted, log: LogWatch) -> None:
    with pytest.raises(RunnerFailed):
        hosted.run("raise")
    log.wait_for("ValueError: a bad")


def test_a_long_line_of_output_holds_nothing_up(hosted: Hosted) -> None:
    assert hosted.run(("print", "x" * 1_000_000), "a") == [None, "a"]


# Death


@pytest.mark.parametrize(
    ("payload", "cause"),
    [("exit", "exit code 7"), ("sys.exit", "exit code 9"), ("kill", "signal 9")],
)
def test_a_worker_that_dies_in_a_run_is_noticed_and_can_be_started_again(
    hosted: Hosted, payload: str, cause: str
) -> None:
    (first,) = hosted.run("pid")
    with pytest.raises(WorkerLost, match=rf"^worker-0 died \({cause}\)"):
        hosted.run("a", payload)
    assert hosted.deaths == [cause]  # told before the run ended
    assert hosted.host.death_reason == cause
    with pytest.raises(WorkerLost, match="not running"):
        hosted.run("a")
    assert hosted.start() != first
    assert hosted.host.death_reason is None
    assert hosted.run("a") == ["a"]


def test_the_last_lines_of_a_worker_are_in_the_error(hosted: Hosted) -> None:
    with pytest.raises(WorkerLost, match=r"exit code 7.*: early words; last words$"):
        hosted.run(("print", "early words"), "exit")


def test_a_worker_killed_from_outside_in_a_run_is_noticed_at_once(
    hosted: Hosted, log: LogWatch
) -> None:
    (pid,) = hosted.run("pid")
    ended = hosted.in_thread(lambda: hosted.run("hang"))
    log.wait_for("hanging")
    os.kill(pid, signal.SIGKILL)
    assert hosted.until_dead() == "signal 9"
    assert isinstance(ended(), WorkerLost)


def test_a_worker_killed_while_idle_is_noticed_at_once(hosted: Hosted) -> None:
    os.kill(hosted.run("pid")[0], signal.SIGKILL)
    assert hosted.until_dead() == "signal 9"
    assert hosted.host.death_reason == "signal 9"
    with pytest.raises(WorkerLost, match="signal 9"):
        hosted.run("a")
    hosted.start()
    assert hosted.run("a") == ["a"]
    assert hosted.deaths == ["signal 9"]


def test_a_child_of_the_workers_own_does_not_hide_that_it_died(hosted: Hosted) -> None:
    pid, child = hosted.run("pid", "child")
    try:
        os.kill(pid, signal.SIGKILL)
        assert hosted.until_dead() == "signal 9"
    finally:
        os.kill(child, signal.SIGKILL)


def test_of_many_workers_that_die_together_each_is_known_by_its_own_cause() -> None:
    """Several threads reap at once, and one starts a worker meanwhile."""
    crowd = [Hosted(Obedient) for _ in range(4)]
    # A worker lives no longer than the thread that started it: these last until the end.
    starters = [ThreadPoolExecutor(1) for _ in crowd]
    try:
        for hosted in crowd:
            hosted.start()
        for _ in range(2):
            ended = [hosted.in_thread(partial(hosted.run, "kill")) for hosted in crowd]
            assert [str(wait()) for wait in ended] == ["worker-0 died (signal 9)"] * 4
            starting = [
                starter.submit(hosted.start)
                for starter, hosted in zip(starters, crowd, strict=True)
            ]
            for started in starting:
                started.result(PATIENCE)
        assert [hosted.deaths for hosted in crowd] == [["signal 9"] * 2] * 4
    finally:
        for hosted in crowd:
            hosted.host.stop()
        for starter in starters:
            starter.shutdown()


def test_sigterm_and_sigint_are_the_parents_business(hosted: Hosted) -> None:
    (pid,) = hosted.run("pid")
    assert hosted.run("signal") == ["still here"]
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    assert hosted.run("pid") == [pid]


@pytest.mark.parametrize("payload", ["hang", "a"])
def test_a_parent_killed_outright_leaves_no_orphan(payload: str) -> None:
    """Even while the runner hangs."""
    script = f"""
import logging, sys
from batcher.workers.host import run_on
from batcher.workers.process import ProcessHost
from tests.batcher.runners import Obedient
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    host = ProcessHost(Obedient, "worker-0", lambda reason: None)
    print(host.start().pid, flush=True)
    run_on(host, [{payload!r}], 60.0)
    print("hanging", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "hanging\n"
        parent.kill()
        assert gone(pid), "the worker outlived its parent"


# Starts that fail


@pytest.mark.parametrize(
    ("factory", "error", "reason"),
    [
        (DoesNotLoad, RunnerFailed, "^FileNotFoundError: no weights in /nowhere$"),
        (NoFacts, RunnerFailed, "no mapping of facts"),
        (WrongFacts, RunnerFailed, "dimension must be an int"),
        (OddFacts, RunnerFailed, "cannot be sent"),
        (DiesLoading, WorkerLost, r"^worker-0 died \(signal 9\): mapping the weights$"),
        (lambda: Obedient(), RunnerFailed, "worker-0 cannot be started: .*lambda"),
    ],
)
def test_a_start_that_fails_has_its_reason_and_leaves_nothing(
    factory: RunnerFactory, error: type[Exception], reason: str, leaves_nothing: None
) -> None:
    host = ProcessHost(factory, "worker-0", lambda reason: None)
    for _ in range(2):
        with pytest.raises(error, match=reason):
            host.start()
    host.stop()


def test_a_start_that_fails_with_the_models_own_words_leaves_no_traceback(log: LogWatch) -> None:
    host = ProcessHost(SaysWhatToChange, "worker-0", lambda reason: None)
    with pytest.raises(RunnerFailed, match=r"^set another device$"):
        host.start()
    host.stop()
    assert log.lines == []


def test_a_start_without_descriptors_left_is_a_failed_start_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, leaves_nothing: None
) -> None:
    def no_process(self: object) -> None:
        raise OSError(24, "Too many open files")

    host = ProcessHost(Obedient, "worker-0", lambda reason: None)
    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing.context.SpawnProcess, "start", no_process)
        with pytest.raises(RunnerFailed, match="Too many open files"):
            host.start()
    host.start()
    host.stop()


def test_a_kill_ends_a_start_that_hangs(log: LogWatch, leaves_nothing: None) -> None:
    hosted = Hosted(HangsLoading)
    ended = hosted.in_thread(hosted.start)
    log.wait_for("loading")
    hosted.host.kill()
    assert isinstance(ended(), WorkerLost)
    hosted.host.stop()


def test_after_a_kill_nothing_is_started_any_more() -> None:
    host = ProcessHost(Obedient, "worker-0", lambda reason: None)
    host.kill()
    try:
        with pytest.raises(WorkerLost, match="stopped before it started"):
            host.start()
    finally:
        host.stop()


def test_a_kill_ends_a_run_that_hangs(log: LogWatch, leaves_nothing: None) -> None:
    hosted = Hosted(Obedient)
    hosted.start()
    ended = hosted.in_thread(lambda: hosted.run("hang"))
    log.wait_for("hanging")
    hosted.host.kill()
    assert isinstance(ended(), WorkerLost)
    hosted.host.stop()


# The orderly end


def test_a_stop_lets_the_runner_close_and_is_no_death(tmp_path: Path, leaves_nothing: None) -> None:
    note = tmp_path / "note"
    hosted = Hosted(partial(LeavesANote, str(note)))
    hosted.start()
    hosted.host.stop()
    hosted.host.stop()
    assert note.read_text() == "closed"
    assert (hosted.deaths, hosted.host.death_reason) == ([], "exit code 0")


def test_a_stop_does_not_wait_for_ever_for_a_runner_that_does_not_close(
    monkeypatch: pytest.MonkeyPatch, leaves_nothing: None
) -> None:
    monkeypatch.setattr(worker, "_STOP_TIMEOUT", 0.1)
    hosted = Hosted(Obedient)
    pid = hosted.start()
    os.kill(pid, signal.SIGSTOP)
    hosted.host.stop()
    assert hosted.host.death_reason == "signal 9"


def test_many_lives_leave_nothing_behind(leaves_nothing: None) -> None:
    hosted = Hosted(Obedient)
    for payload in ("exit", "kill", "raise"):
        hosted.start()
        with pytest.raises((WorkerLost, RunnerFailed)):
            hosted.run(payload)
    hosted.host.stop()


def test_stopping_what_was_never_started_is_no_error() -> None:
    ProcessHost(Obedient, "worker-0", lambda reason: None).stop()


def test_it_introduces_itself(hosted: Hosted) -> None:
    (pid,) = hosted.run("pid")
    assert repr(hosted.host) == f"<ProcessHost worker-0, pid {pid}>"
    hosted.host.stop()
    assert repr(hosted.host) == "<ProcessHost worker-0, pid None>"


@pytest.mark.parametrize("payload", ["garbage", "foresight", "length"])
def test_what_is_no_answer_ends_the_worker_and_its_channel(hosted: Hosted, payload: str) -> None:
    with pytest.raises(WorkerLost, match=r"worker-0 died \(garbage\)"):
        hosted.run(payload)
    assert hosted.deaths == ["garbage"]
    hosted.start()
    assert hosted.run("a") == ["a"]


def test_a_frame_that_is_cut_short_by_the_workers_end_is_that_end(hosted: Hosted) -> None:
    with pytest.raises(WorkerLost, match="exit code 7"):
        hosted.run("torn")


def test_an_answer_to_an_earlier_batch_is_dropped(hosted: Hosted) -> None:
    assert hosted.run("a") == ["a"]
    assert hosted.run("replay") == ["replay"]


@pytest.mark.parametrize("payload", ["hang", "half a frame"])
def test_a_run_that_does_not_end_in_time_ends_the_worker(hosted: Hosted, payload: str) -> None:
    with pytest.raises(WorkerLost, match=r"worker-0 died \(hang\): .* BATCHER_HANG_AFTER_MS"):
        run_on(hosted.host, [payload], 0.05)
    assert hosted.deaths == ["hang"]
    hosted.start()
    assert hosted.run("a") == ["a"]


def test_a_stopped_worker_is_replaced_and_what_it_says_when_woken_is_heard_by_nobody(
    hosted: Hosted,
) -> None:
    (stopped,) = hosted.run("pid")
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match="hang"):
        run_on(hosted.host, ["late"], 0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    hosted.start()
    assert hosted.run("a", "pid") != ["late", stopped]
    assert hosted.run("b") == ["b"]


def test_a_stopped_worker_is_noticed_even_while_the_batch_is_on_its_way(hosted: Hosted) -> None:
    """A pipe holds only so much: the rest of a large batch is never taken."""
    (stopped,) = hosted.run("pid")
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match="hang"):
        run_on(hosted.host, ["x" * 10_000_000], 0.05)


def test_a_batch_that_does_not_fit_the_memory_is_known_as_such(hosted: Hosted) -> None:
    with pytest.raises(OutOfMemory, match="MemoryError: 3 inputs"):
        hosted.run("memory", "b", "c")
    assert hosted.run("a") == ["a"]


def test_a_device_that_has_failed_takes_its_process_with_it(hosted: Hosted) -> None:
    with pytest.raises(WorkerLost, match=r"exit code 1.*the device has failed"):
        hosted.run("device")
    hosted.start()
    assert hosted.run("a") == ["a"]


def test_a_discarded_runner_dies_for_the_reason_given(hosted: Hosted) -> None:
    hosted.host.discard("canary")
    assert (hosted.deaths, hosted.host.death_reason) == (["canary"], "canary")
    hosted.start()
    assert hosted.run("a") == ["a"]


def test_a_restart_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "_START_TIMEOUT", 0.0)
    monkeypatch.setattr(worker, "_TIMES_FIRST", 1.0)
    hosted = Hosted(partial(LoadsOnce, str(tmp_path / "note")))
    hosted.start()
    with pytest.raises(WorkerLost):
        hosted.run("kill")
    with pytest.raises(WorkerLost, match="hang"):
        hosted.start()
    hosted.host.stop()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_has_forked_is_missed_all_the_same(hosted: Hosted) -> None:
    """Its child keeps the channel open, and the pipe that tells of a process's end."""
    with pytest.raises(WorkerLost, match="signal 9"):
        hosted.run("fork and die")
    hosted.start()
    assert hosted.run("a") == ["a"]


# Two batches


def test_a_batch_waits_in_the_worker_while_one_runs_and_the_answers_come_in_order(
    hosted: Hosted,
) -> None:
    big = ["x" * 1_000_000]  # more than the channel holds: somebody reads while the other runs
    hosted.host.send(big, PATIENCE)
    hosted.host.send(["b", *big], PATIENCE)
    first, second = hosted.host.receive(), hosted.host.receive()
    assert first is not None
    assert second is not None
    assert (list(first.results), list(second.results)) == (big, ["b", *big])


def test_what_is_not_there_in_time_can_be_asked_for_again(hosted: Hosted) -> None:
    now = MonotonicClock().now
    hosted.host.send(["hang"], PATIENCE)
    assert hosted.host.receive(now() + 0.001) is None
    assert hosted.host.receive(now()) is None
    hosted.host.kill()
    with pytest.raises(WorkerLost):
        hosted.host.receive()


def test_a_wait_for_less_than_a_millisecond_is_a_wait(hosted: Hosted) -> None:
    now = MonotonicClock().now
    hosted.host.send(["hang"], PATIENCE)
    until = now() + 0.0009
    assert hosted.host.receive(until) is None
    assert now() >= until  # else whoever asks again until then keeps a core busy
    hosted.host.kill()  # or the end waits for it


def test_the_hang_timeout_of_a_batch_counts_from_when_it_is_the_oldest(hosted: Hosted) -> None:
    hosted.host.send(["a"], PATIENCE)
    hosted.host.send(["hang"], 0.05)
    assert hosted.host.receive() is not None
    with pytest.raises(WorkerLost, match="hang"):
        hosted.host.receive()


def test_a_batch_that_fails_leaves_the_one_behind_it_alone(hosted: Hosted) -> None:
    hosted.host.send(["raise"], PATIENCE)
    hosted.host.send(["b"], PATIENCE)
    with pytest.raises(RunnerFailed, match="ValueError"):
        hosted.host.receive()
    reply = hosted.host.receive()
    assert reply is not None
    assert list(reply.results) == ["b"]


def test_a_runner_that_launches_has_the_next_on_its_device_before_it_is_asked_for_results() -> None:
    hosted = Hosted(Launches)
    hosted.start()
    try:
        hosted.host.send(["a"], PATIENCE)
        hosted.host.send(["b"], PATIENCE)
        first, second = hosted.host.receive(), hosted.host.receive()
        assert first is not None
        assert second is not None
        assert first.results[0] == ["launch a", "launch b", "finish a"]
        assert second.results[0][-1] == "finish b"
        with pytest.raises(OutOfMemory, match="no room to launch it"):
            run_on(hosted.host, ["refuse"], PATIENCE)
        assert hosted.run("c")[0][-2:] == ["launch c", "finish c"]
    finally:
        hosted.host.stop()


def test_what_was_answered_before_the_worker_died_is_not_lost_with_what_is_sent_to_it_then(
    hosted: Hosted,
) -> None:
    (pid,) = hosted.run("pid")
    hosted.host.send(["b"], PATIENCE)
    assert hosted.host._pipe is not None
    assert hosted.host._pipe.is_there(PATIENCE)
    os.kill(pid, signal.SIGKILL)
    hosted.until_dead()
    hosted.host.send(["c"], PATIENCE)
    reply = hosted.host.receive()
    assert reply is not None
    assert list(reply.results) == ["b"]
    with pytest.raises(WorkerLost):
        hosted.host.receive()
