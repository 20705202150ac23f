"""The batching thread and its host: starts, losses, restarts, and the end."""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from batcher.batching import BatchingThread
from batcher.collector import Collector
from batcher.errors import BatcherError, Draining, RunnerFailed, WorkerLost
from batcher.limits import Limits
from batcher.request import Request
from batcher.runner import RunnerInfo
from batcher.scheduling.schedule import NOW
from batcher.supervision import restarts
from batcher.workers.pipe import Reply
from tests.fakes import PATIENCE, FakeClock, RecordingSink, Signal, join, request, until

Act = Callable[[], Any]
LIFE = RunnerInfo(details={"life": 1})


class ScriptedHost:
    """Plays one act per start and per run; out of acts, it starts and echoes."""

    def __init__(self) -> None:
        self.starts: queue.Queue[Act] = queue.Queue()
        self.runs: queue.Queue[Act] = queue.Queue()
        self.started = Signal("the host was not started")
        self.killed = threading.Event()
        self.stopped = 0
        self.death_reason: str | None = None
        self.pipelines = False
        self.sent: deque[tuple[Sequence[Any], float]] = deque()

    def start(self) -> RunnerInfo:
        self.death_reason = None
        self.sent.clear()
        self.started.give()
        self._act(self.starts)
        return LIFE

    def send(self, payloads: Sequence[Any], hang_timeout: float) -> None:
        self.sent.append((payloads, hang_timeout))

    def receive(self, until: float | None = None) -> Reply | None:
        return self.run(*self.sent.popleft())

    def run(self, payloads: Sequence[Any], hang_timeout: float) -> Reply:
        self._act(self.runs)
        return Reply(list(payloads), 0.001)

    def stop(self) -> None:
        self.stopped += 1

    def kill(self) -> None:
        self.killed.set()

    def discard(self, why: str) -> None:
        self.death_reason = why

    @staticmethod
    def _act(acts: queue.Queue[Act]) -> None:
        try:
            act = acts.get_nowait()
        except queue.Empty:
            return
        act()


class Stage:
    """A batching thread over a scripted host, and what it told its engine."""

    def __init__(self, limits: Limits | None = None, host: ScriptedHost | None = None) -> None:
        self.collector = Collector(limits or Limits(), FakeClock())
        self.host = host or ScriptedHost()
        self.sink = RecordingSink()
        self.reports: queue.Queue[BatcherError | None] = queue.Queue()
        self.crashes: queue.Queue[BaseException] = queue.Queue()
        self.may_retry = threading.Event()
        self.may_retry.set()
        self.thread = BatchingThread(
            self.collector,
            0,
            self.host,
            on_first_start=self.reports.put,
            on_up=lambda: None,
            on_crash=self.crashes.put,
            may_retry=self.may_retry,
        )

    def start(self) -> BatcherError | None:
        """Returns what the thread reports of the first start."""
        self.thread.start()
        return self.reports.get(timeout=PATIENCE)

    def ask(self, payload: str) -> Any:
        self.collector.submit([request(self.sink, payload=payload)])
        self.sink.until_settled(len(self.sink.outcomes) + 1)
        return self.sink.outcomes[-1][1]

    def die(self) -> None:
        """As a process host does it: the collector hears of it first, then the run ends."""
        self.host.death_reason = "signal 9"
        self.collector.replica_down(0, "signal 9")
        raise WorkerLost("worker-0 died (signal 9)")

    def until_started(self, times: int) -> None:
        """Until `times` more starts have begun, and the last of them is up."""
        for _ in range(times):
            self.host.started.wait()
        until(self.collector, lambda collector: collector._schedule.replicas[0].is_up)

    def end(self) -> None:
        self.collector.close(Draining("closed", 1.0))
        self.thread.stop()
        self.thread.join()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(restarts, "_WORKER_DELAYS", (0.0, 0.0, 0.0, 3600.0))
    stage = Stage()
    yield stage
    stage.end()
    assert not any(thread.name == "batching-0" for thread in threading.enumerate())


def raising(error: BaseException) -> Act:
    def act() -> None:
        raise error

    return act


def test_it_is_up_before_it_says_so_and_has_the_info(stage: Stage) -> None:
    assert stage.start() is None
    (replica,) = stage.collector.snapshot().replicas
    assert (replica.up, replica.info) == (True, LIFE)
    assert stage.ask("a").value == "a"


def test_a_replica_whose_first_start_fails_is_started_again(stage: Stage) -> None:
    stage.host.starts.put(raising(RunnerFailed("no memory just now")))
    assert str(stage.start()) == "no memory just now"
    stage.until_started(2)
    assert stage.ask("a").value == "a"
    assert stage.collector.snapshot().replicas[0].reason == "no memory just now"


def test_an_input_that_raises_fails_alone_and_its_mates_are_answered() -> None:
    stage = Stage()
    stage.host.run = picky  # type: ignore[method-assign]  # a host that looks at its payloads
    requests = [request(stage.sink, payload=text) for text in ("a", "bad", "c")]
    stage.start()
    stage.collector.submit(requests)
    stage.sink.until_settled(3)
    outcomes = dict(stage.sink.outcomes)
    assert [outcomes[requests[place]].value for place in (0, 2)] == ["a", "c"]
    assert str(outcomes[requests[1]]) == "bad input"
    stage.end()


def picky(payloads: Sequence[Any], hang_timeout: float) -> Reply:
    if "bad" in payloads:
        raise RunnerFailed("bad input")
    return Reply(list(payloads), 0.001)


def test_a_failed_batch_fails_its_requests_and_the_next_is_served(stage: Stage) -> None:
    stage.host.runs.put(raising(RunnerFailed("bad input")))
    stage.start()
    assert str(stage.ask("a")) == "bad input"
    assert stage.ask("b").value == "b"


def test_what_a_lost_worker_ran_is_run_by_the_next(stage: Stage) -> None:
    stage.host.runs.put(stage.die)
    stage.start()
    assert stage.ask("a").value == "a"
    snapshot = stage.collector.snapshot()
    assert snapshot.replicas[0].restarts == {"signal 9": 1}
    assert (snapshot.retried, snapshot.batches) == (1, {"idle": 1, "retry": 1})


def test_a_batch_that_a_close_cuts_short_is_told_so(stage: Stage) -> None:
    def killed() -> None:
        stage.thread.stop(now=True)
        raise WorkerLost("worker-0 died (signal 9)")

    stage.host.runs.put(killed)
    stage.start()
    assert isinstance(stage.ask("a"), Draining)


def test_a_worker_that_dies_before_it_is_known_to_be_up_is_started_again(stage: Stage) -> None:
    """Its death is told to the collector first, where nothing is up yet; it must not get lost."""

    def dies_at_once() -> None:
        stage.host.death_reason = "signal 9"
        stage.collector.replica_down(0, "signal 9")

    stage.host.starts.put(dies_at_once)
    stage.start()
    stage.until_started(2)
    assert stage.ask("a").value == "a"
    assert stage.collector.snapshot().replicas[0].restarts == {"signal 9": 1}


def test_a_failed_first_start_is_reported_and_a_close_ends_the_thread(stage: Stage) -> None:
    error = RunnerFailed("no weights")
    stage.host.starts.put(raising(error))
    assert stage.start() is error
    stage.end()
    assert stage.host.stopped == 1
    assert stage.crashes.empty()


def test_a_first_start_that_fails_as_no_start_should_is_reported_all_the_same(stage: Stage) -> None:
    stage.host.starts.put(raising(OSError("too many open files")))
    reported = stage.start()
    assert isinstance(reported, RunnerFailed)
    assert str(reported) == "OSError: too many open files"
    assert isinstance(stage.crashes.get(timeout=PATIENCE), OSError)


def test_a_bug_in_the_host_ends_the_thread_but_not_without_an_answer(stage: Stage) -> None:
    stage.host.runs.put(raising(ZeroDivisionError("a bug")))
    stage.start()
    outcome = stage.ask("a")
    assert isinstance(outcome, RunnerFailed)
    assert "ZeroDivisionError: a bug" in str(outcome)
    assert isinstance(stage.crashes.get(timeout=PATIENCE), ZeroDivisionError)


def test_a_change_of_the_info_comes_with_an_answer_and_ends_with_the_life(stage: Stage) -> None:
    changed = LIFE.updated({"backend": "torch", "padding_free": True})
    stage.host.run = lambda payloads, hang_timeout: Reply(  # type: ignore[method-assign]
        list(payloads), 0.001, changed
    )
    stage.start()
    stage.ask("a")
    [replica] = stage.collector.snapshot().replicas
    assert replica.info is changed
    assert stage.collector._schedule.replicas[0].padding_free
    stage.host.death_reason = "signal 9"
    stage.collector.replica_down(0, "signal 9")
    stage.until_started(2)
    assert stage.collector.snapshot().replicas[0].info is LIFE


def test_a_host_that_gives_the_wrong_number_of_results_leaves_nobody_waiting(stage: Stage) -> None:
    stage.host.run = lambda payloads, hang_timeout: Reply([], 0.001)  # type: ignore[method-assign]
    stage.start()
    assert isinstance(stage.ask("a"), RunnerFailed)
    assert isinstance(stage.crashes.get(timeout=PATIENCE), AssertionError)


def test_restarts_in_a_row_back_off_and_a_served_batch_ends_the_row(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    closing = stage.thread._closing
    monkeypatch.setattr(restarts, "_WORKER_DELAYS", (0.0, 0.125, 0.25))

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return closing.is_set()

    monkeypatch.setattr(stage.thread, "_closing", Waiting(wait, closing))
    stage.host.runs.put(stage.die)
    stage.start()
    for _ in range(2):
        stage.host.starts.put(raising(RunnerFailed("not yet")))
    stage.ask("dies")
    stage.until_started(4)
    assert waits == [0.0, 0.125, 0.25]
    stage.host.runs.put(stage.die)
    stage.ask("dies")
    stage.until_started(1)
    assert waits[3:] == [0.0]


class Waiting:
    """An event whose wait is only noted."""

    def __init__(self, wait: Callable[[float], bool], event: threading.Event) -> None:
        self.wait = wait
        self.set = event.set
        self.is_set = event.is_set


def test_a_close_ends_a_back_off_at_once(stage: Stage) -> None:
    stage.host.runs.put(stage.die)
    stage.start()
    for _ in range(3):
        stage.host.starts.put(raising(RunnerFailed("not yet")))
    stage.collector.submit([request(stage.sink, payload="a")])
    for _ in range(4):
        stage.host.started.wait()
    closer = threading.Thread(target=stage.end, name="closer")
    closer.start()
    join(closer)
    assert stage.host.stopped == 1


def test_a_close_now_kills_the_host_and_an_orderly_one_does_not(stage: Stage) -> None:
    stage.start()
    stage.end()
    assert not stage.host.killed.is_set()
    stage.thread.stop(now=True)
    stage.thread.join()
    assert stage.host.killed.is_set()


def test_closing_what_was_never_started_is_no_error() -> None:
    stage = Stage()
    stage.end()
    assert stage.host.stopped == 0


def test_a_drained_thread_stops_its_host_once(stage: Stage) -> None:
    stage.start()
    assert stage.ask("a").value == "a"
    assert stage.collector.drain(until=1.0)
    stage.end()
    assert stage.host.stopped == 1


def test_what_a_worker_left_undone_comes_first_and_in_its_order(stage: Stage) -> None:
    """A batch of eight raises; in its first half the worker dies; the other half has not run."""
    ran: list[list[str]] = []

    def run(payloads: Sequence[Any], hang_timeout: float) -> Reply:
        ran.append(list(payloads))
        if len(ran) == 1:
            raise RunnerFailed("bad input")
        if len(ran) == 2:
            stage.die()
        return Reply(list(payloads), 0.001)

    stage.host.run = run  # type: ignore[method-assign]
    stage.start()
    stage.collector.submit([request(stage.sink, payload=name) for name in "abcdefgh"])
    stage.sink.until_settled(8)
    assert ran == [list("abcdefgh"), list("abcd"), list("abcd"), list("efgh")]
    assert stage.collector.snapshot().ok == 8


# Two batches at the host


class PatientHost(ScriptedHost):
    """Holds two, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.pipelines = True
        self.has_two = threading.Event()

    def send(self, payloads: Sequence[Any], hang_timeout: float) -> None:
        super().send(payloads, hang_timeout)
        if len(self.sent) == 2:
            self.has_two.set()

    def receive(self, until: float | None = None) -> Reply | None:
        assert until is None, "it was not yet time to cut the next one"
        assert self.has_two.wait(PATIENCE), "no second batch was sent"
        return super().receive()


@pytest.fixture
def pipelined(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage where the batch that follows is always cut at once, and holds two at most."""
    monkeypatch.setattr(restarts, "_WORKER_DELAYS", (0.0, 0.0, 0.0, 3600.0))
    stage = Stage(Limits(max_batch_size=2), PatientHost())
    schedule = stage.collector._schedule
    monkeypatch.setattr(schedule, "early_at", lambda *_: NOW if schedule.pending else math.inf)
    yield stage
    stage.end()


def submit(stage: Stage, names: str) -> list[Request]:
    """At once: the collector is not asked for a batch before all are there."""
    requests = [request(stage.sink, payload=name) for name in names]
    stage.collector.submit(requests)
    return requests


def test_the_next_batch_is_at_the_host_before_the_one_that_runs_has_ended(pipelined: Stage) -> None:
    pipelined.start()
    requests = submit(pipelined, "abcd")
    pipelined.sink.until_settled(4)
    assert [pipelined.sink.outcomes_of(each)[0].value for each in requests] == list("abcd")
    assert [len(each) for each in pipelined.sink.deliveries] == [2, 2]


def test_a_batch_that_fails_has_its_halves_run_behind_the_one_that_was_sent(
    pipelined: Stage,
) -> None:
    ran: list[list[str]] = []

    def run(payloads: Sequence[Any], hang_timeout: float) -> Reply:
        ran.append(list(payloads))
        return picky_about("a", payloads)

    pipelined.host.run = run  # type: ignore[method-assign]
    pipelined.start()
    requests = submit(pipelined, "abcd")
    pipelined.sink.until_settled(4)
    assert ran == [["a", "b"], ["c", "d"], ["a"], ["b"]]
    outcomes = [pipelined.sink.outcomes_of(each)[0] for each in requests]
    assert str(outcomes[0]) == "bad input"
    assert [each.value for each in outcomes[1:]] == ["b", "c", "d"]


def picky_about(bad: str, payloads: Sequence[Any]) -> Reply:
    if bad in payloads:
        raise RunnerFailed("bad input")
    return Reply(list(payloads), 0.001)


def test_a_lost_worker_counts_against_the_batch_that_ran_and_not_the_one_behind(
    pipelined: Stage,
) -> None:
    pipelined.host.runs.put(pipelined.die)
    pipelined.start()
    requests = submit(pipelined, "abcd")
    pipelined.sink.until_settled(4)
    assert [each.workers_lost for each in requests] == [1, 1, 0, 0]
    assert all(pipelined.sink.outcomes_of(each)[0].value for each in requests)
    assert pipelined.collector.snapshot().retried == 4


def test_a_payload_that_cannot_be_sent_spares_the_batch_that_runs(pipelined: Stage) -> None:
    host, send = pipelined.host, pipelined.host.send

    def careful(payloads: Sequence[Any], hang_timeout: float) -> None:
        if "c" in payloads:
            host.has_two.set()  # type: ignore[attr-defined]
            raise RunnerFailed("the batch cannot be sent")
        send(payloads, hang_timeout)

    host.send = careful  # type: ignore[method-assign]
    pipelined.start()
    requests = submit(pipelined, "abcd")
    pipelined.sink.until_settled(4)
    outcomes = [pipelined.sink.outcomes_of(each)[0] for each in requests]
    assert str(outcomes[2]) == "the batch cannot be sent"
    assert [outcomes[place].value for place in (0, 1, 3)] == ["a", "b", "d"]


def test_a_close_leaves_neither_of_two_without_an_answer(pipelined: Stage) -> None:
    def killed() -> None:
        pipelined.thread.stop(now=True)
        raise WorkerLost("worker-0 died (signal 9)")

    pipelined.host.runs.put(killed)
    pipelined.host.runs.put(killed)
    pipelined.start()
    requests = submit(pipelined, "abcd")
    pipelined.sink.until_settled(4)
    assert all(isinstance(pipelined.sink.outcomes_of(each)[0], Draining) for each in requests)
