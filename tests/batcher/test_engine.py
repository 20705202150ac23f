"""The engine whole: most of it with the runner in the batching thread and a gate in the runner."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batcher import (
    DeadlineExceeded,
    Draining,
    Engine,
    InvalidPayload,
    Limits,
    NotReady,
    PoisonRequest,
    RunnerFailed,
)
from batcher.collector import Collector
from batcher.supervision import restarts
from tests.batcher.runners import (
    BreaksOnRequests,
    DiesLoading,
    DoesNotLoad,
    HangsLoading,
    LoadsOnce,
    Obedient,
)
from tests.fakes import Echo, GatedRunner, LogWatch, Signal, run_async, until

inline = partial(Engine, isolation="thread")


@pytest.fixture(autouse=True)
def _every_thread_ends() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("batching-")]
    assert left == []


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_async(test())

    run.__name__ = test.__name__
    return run


def ask(engine: Engine, *payloads: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(engine.submit(payload)) for payload in payloads]


async def until_waiting(engine: Engine, count: int) -> None:
    """Lets everyone who is ready run until `count` requests wait."""
    for _ in range(1000):
        if (await engine.snapshot()).waiting == count:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{count} were to wait: {engine!r}")


async def until_phase(engine: Engine, phase: str) -> None:
    await asyncio.to_thread(until, engine._collector, lambda state: state._monitor.phase == phase)


# Use


@on_a_loop
async def test_an_engine_is_usable_on_its_own() -> None:
    async with inline(Echo) as engine:
        assert await engine.submit("text") == "text"
        answers = await engine.submit_all(["a", "b"], costs=[2, 3])
        assert [answer.value for answer in answers] == ["a", "b"]
        assert (await engine.snapshot()).ready
    assert not (await engine.snapshot()).ready


@on_a_loop
async def test_python_code_may_submit_values_of_its_own_types_and_the_client_plain_data() -> None:
    async with inline(Echo) as engine:
        own = {Limits(): [object()]}
        assert await engine.submit(own) is own
        assert (await engine.submit_all([own]))[0].value is own
        with pytest.raises(InvalidPayload, match=r"cannot be submitted: a value of type batcher\."):
            await engine.client.submit(own)
        assert await engine.client.submit(("plain", 1)) == ("plain", 1)


@on_a_loop
async def test_what_arrives_during_a_run_becomes_one_batch() -> None:
    runner = GatedRunner()
    async with inline(runner) as engine:
        first = ask(engine, "first")
        await runner.started.wait_async()
        others = ask(engine, "b", "c", "d")
        await until_waiting(engine, 3)
        runner.release(2)
        assert await asyncio.gather(*first, *others) == ["first", "b", "c", "d"]
    assert runner.batches == [["first"], ["b", "c", "d"]]


@on_a_loop
async def test_two_replicas_run_at_the_same_time() -> None:
    one, two = GatedRunner(), GatedRunner()
    async with inline([one, two], limits=Limits(max_batch_size=1)) as engine:
        asked = ask(engine, "a", "b")
        await one.started.wait_async()
        await two.started.wait_async()
        one.release()
        two.release()
        assert await asyncio.gather(*asked) == ["a", "b"]


@on_a_loop
async def test_a_run_that_raises_fails_its_batch_only() -> None:
    async with inline(Obedient) as engine:
        with pytest.raises(RunnerFailed, match="ValueError: a bad input"):
            await engine.submit("raise")
        assert await engine.submit("a") == "a"
        snapshot = await engine.snapshot()
    assert (snapshot.ok, snapshot.failed) == (1, 1)


@on_a_loop
async def test_a_caller_that_gives_up_costs_its_mates_nothing() -> None:
    runner = GatedRunner()
    async with inline(runner) as engine:
        first = ask(engine, "first")
        await runner.started.wait_async()
        goes, stays = ask(engine, "goes", "stays")
        await until_waiting(engine, 2)
        runner.release()
        await runner.started.wait_async()
        goes.cancel()
        with pytest.raises(asyncio.CancelledError):
            await goes
        runner.release()
        assert await stays == "stays"
        await asyncio.gather(*first)
        snapshot = await engine.snapshot()
    assert (snapshot.ok, snapshot.cancelled) == (2, 1)


@on_a_loop
async def test_counts_add_up_whatever_became_of_the_requests() -> None:
    runner = GatedRunner()
    async with inline(runner, limits=Limits(max_queue_size=3)) as engine:
        runs = ask(engine, "runs")
        await runner.started.wait_async()
        late = asyncio.create_task(engine.submit_all(["x"], deadline=engine._clock.now() + 0.01))
        waits = ask(engine, "a", "b")
        with pytest.raises(DeadlineExceeded):
            await late
        waits[0].cancel()
        await until_waiting(engine, 1)
        snapshot = await engine.snapshot()
        assert (snapshot.accepted, snapshot.running, snapshot.waiting) == (4, 1, 1)
        assert (snapshot.expired, snapshot.cancelled) == (1, 1)
        runner.release(2)
        await asyncio.gather(*runs, waits[1])
        snapshot = await engine.snapshot()
    assert snapshot.accepted == snapshot.ok + snapshot.expired + snapshot.cancelled == 4


# The start


def test_an_engine_needs_a_runner() -> None:
    with pytest.raises(ValueError, match="at least one runner"):
        Engine([])


@on_a_loop
async def test_before_the_start_there_is_no_client() -> None:
    engine = inline(Echo)
    with pytest.raises(RuntimeError, match="not been started"):
        await engine.submit("a")
    assert not (await engine.snapshot()).ready


def test_an_engine_that_does_not_load_gives_the_reason_and_is_closed(log: LogWatch) -> None:
    async def test() -> None:
        engine = inline(DoesNotLoad)
        with pytest.raises(RunnerFailed, match="no weights in /nowhere"):
            async with engine:
                raise AssertionError("it must not come this far")
        assert (await engine.snapshot()).phase == "closed"

    run_async(test())
    assert log.lines == []  # the error says it, and nothing is started again


def test_one_replica_that_does_not_load_leaves_the_work_to_the_others(log: LogWatch) -> None:
    reason = "FileNotFoundError: no weights in /nowhere"

    async def test() -> None:
        async with inline([DoesNotLoad, Echo]) as engine:
            assert await engine.submit("a") == "a"
            replicas = (await engine.snapshot()).replicas
            assert [replica.up for replica in replicas] == [False, True]
            log.wait_for(f"replica 0 did not start: {reason}; starting it again")

    run_async(test())


def test_replicas_that_do_not_load_at_different_times_are_not_started_again(
    log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_WORKER_DELAYS", (0.0,))
    starts = 0
    again, late = threading.Event(), threading.Event()

    class FailsAtOnce(DoesNotLoad):
        def warm_up(self) -> Mapping[str, object]:
            nonlocal starts
            starts += 1
            if starts == 2:
                again.set()
            return super().warm_up()

    class FailsLate(DoesNotLoad):
        def warm_up(self) -> Mapping[str, object]:
            late.wait()
            return super().warm_up()

    async def test() -> None:
        engine = inline([FailsAtOnce, FailsLate])
        starting = asyncio.create_task(engine.start())
        await asyncio.to_thread(again.wait, 0.05)  # it must not come
        late.set()
        with pytest.raises(RunnerFailed, match="no weights"):
            await starting
        await engine.close()

    run_async(test())
    assert starts == 1
    assert log.lines == []


@on_a_loop
async def test_starting_twice_is_refused_and_does_no_harm() -> None:
    async with inline(Echo) as engine:
        with pytest.raises(RuntimeError, match="starts once"):
            await engine.start()
        with pytest.raises(RuntimeError, match="starts once"):
            async with engine:
                raise AssertionError("it must not come this far")
        assert await engine.submit("a") == "a"


@on_a_loop
async def test_a_closed_engine_does_not_start() -> None:
    engine = inline(Echo)
    await engine.close()
    with pytest.raises(RuntimeError, match="starts once"):
        await engine.start()


class SlowToLoad(GatedRunner):
    def __init__(self) -> None:
        super().__init__()
        self.loading = Signal("it was not loaded")

    def warm_up(self) -> Mapping[str, object]:
        self.loading.give()
        self._gate.wait()
        return super().warm_up()


@on_a_loop
async def test_a_start_that_is_cancelled_ends_cleanly() -> None:
    runner = SlowToLoad()
    engine = inline(runner)
    starting = asyncio.create_task(engine.__aenter__())
    await runner.loading.wait_async()
    starting.cancel()
    await asyncio.sleep(0)
    runner.release()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (await engine.snapshot()).phase == "closed"
    assert not engine._crashed.done()


@on_a_loop
async def test_while_it_loads_nothing_is_accepted() -> None:
    runner = SlowToLoad()
    engine = inline(runner)
    starting = asyncio.create_task(engine.start())
    await runner.loading.wait_async()
    with pytest.raises(NotReady):
        await engine.submit("a")
    runner.release()
    await starting
    await engine.close()


@on_a_loop
async def test_the_first_replica_is_enough_and_the_others_leave_no_complaint_of_asyncios() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    late = SlowToLoad()
    engine = Engine([Echo, late], isolation="thread")
    await engine.start()
    late.release()
    await engine.close()
    gc.collect()  # asyncio tells of an error that nobody has looked at when it goes
    assert complaints == []


# The end


@on_a_loop
async def test_leaving_answers_what_was_accepted_and_refuses_the_rest() -> None:
    runner = GatedRunner()
    engine = inline(runner, limits=Limits(max_batch_size=1))
    await engine.start()
    accepted = ask(engine, "a", "b")
    await runner.started.wait_async()
    leaving = asyncio.create_task(engine.__aexit__(None, None, None))
    await until_phase(engine, "draining")
    with pytest.raises(Draining):
        await engine.submit("late")
    runner.release(2)
    assert await asyncio.gather(*accepted) == ["a", "b"]
    await leaving
    assert runner.closed == 1


@on_a_loop
async def test_a_drain_that_takes_too_long_says_so_and_the_close_answers_what_waits() -> None:
    runner = GatedRunner()
    engine = inline(runner, limits=Limits(max_batch_size=1))
    await engine.start()
    runs, waits = ask(engine, "runs", "waits")
    await runner.started.wait_async()
    assert not await engine.drain(timeout=0.0)
    closing = asyncio.create_task(engine.close())
    with pytest.raises(Draining):
        await waits
    runner.release()
    assert await runs == "runs"
    await closing


@on_a_loop
async def test_a_drain_without_a_limit_is_allowed() -> None:
    async with inline(Echo) as engine:
        assert await engine.drain(timeout=float("inf"))


@on_a_loop
async def test_closing_before_a_start_or_twice_or_together_is_no_error() -> None:
    engine = inline(Echo)
    await engine.close()
    started = inline(Echo)
    await started.start()
    await asyncio.gather(started.close(), started.close())
    await started.close()


@on_a_loop
async def test_leaving_closes_the_engine_though_the_drain_is_cancelled() -> None:
    runner = GatedRunner()
    engine = inline(runner)
    await engine.start()
    asked = ask(engine, "a")
    await runner.started.wait_async()
    leaving = asyncio.create_task(engine.__aexit__(None, None, None))
    await until_phase(engine, "draining")
    leaving.cancel()
    await until_phase(engine, "closed")
    runner.release()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await asyncio.gather(*asked) == ["a"]
    assert runner.closed == 1


def test_an_event_loop_that_closes_with_requests_in_flight_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = GatedRunner()
    engine = inline(runner)

    async def leave_in_flight() -> None:
        await engine.start()
        engine.client._collector.submit([])
        loop = asyncio.get_running_loop()
        call = engine.client.submit_all(["a"])
        call.send(None)  # as far as its future, and never again
        left.append(call)
        await loop.run_in_executor(None, runner.started.wait)

    left: list[Coroutine[Any, Any, Any]] = []
    run_async(leave_in_flight())
    with caplog.at_level(logging.WARNING):
        runner.release()
        run_async(engine.close())
    left[0].close()
    snapshot = engine._collector.snapshot()
    assert (snapshot.accepted, snapshot.running, snapshot.waiting) == (1, 0, 0)
    assert "the event loop of their callers has closed" in caplog.text


# When the engine itself fails


@on_a_loop
async def test_a_batching_thread_that_fails_is_reported_and_everyone_is_answered() -> None:
    runner = GatedRunner()
    async with inline(runner, limits=Limits(max_batch_size=1)) as engine:
        crashing = asyncio.create_task(engine.crashed())
        impatient = asyncio.create_task(engine.crashed())
        await asyncio.sleep(0)
        impatient.cancel()
        engine._threads[0]._host.send = _a_bug  # type: ignore[method-assign]
        asked = ask(engine, "a", "b")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(outcomes[0], RunnerFailed)
        assert isinstance(outcomes[1], Draining)
        assert isinstance(await crashing, ZeroDivisionError)
        assert not (await engine.snapshot()).ready
        with pytest.raises(Draining):
            await engine.submit("c")


def _a_bug(payloads: Sequence[Any], patience: float) -> Any:
    raise ZeroDivisionError("a bug")


# With worker processes


def test_a_killed_worker_is_replaced_and_the_next_request_served(
    leaves_nothing: None, log: LogWatch
) -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            first = await engine.submit("pid")
            await asyncio.to_thread(os.kill, first, signal.SIGKILL)
            second = await engine.submit("pid")  # it waits for the next worker
            assert second != first
            (replica,) = (await engine.snapshot()).replicas
            assert (replica.up, dict(replica.restarts)) == (True, {"signal 9": 1})
            assert replica.info.pid == second

    run_async(main())
    log.wait_for("restarting replica 0 in 0.0 s, attempt 1")


def restarted(collector: Collector) -> bool:
    (replica,) = collector._supervision.replicas
    return replica.state == "up" and bool(replica.restarts)


def test_a_worker_killed_while_idle_is_replaced_before_anyone_asks(leaves_nothing: None) -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            (before,) = (await engine.snapshot()).replicas
            engine._threads[0]._host._process.kill()  # type: ignore[attr-defined]
            await asyncio.to_thread(until, engine._collector, restarted)
            (after,) = (await engine.snapshot()).replicas
            assert after.info.pid != before.info.pid
            assert await engine.submit("a") == "a"

    run_async(main())


def test_a_worker_that_hangs_does_not_hold_up_the_end(leaves_nothing: None, log: LogWatch) -> None:
    """Its callers have all timed out, so nothing is left to drain; and it would run for ever."""

    async def main() -> None:
        async with Engine(Obedient, request_timeout=0.05) as engine:
            with pytest.raises(DeadlineExceeded):
                await engine.submit("hang")
            snapshot = await engine.snapshot()
            assert (snapshot.running, snapshot.replicas[0].busy) == (0, True)

    run_async(main())


def test_an_engine_closed_while_it_loads_does_not_wait_for_the_model(
    leaves_nothing: None, log: LogWatch
) -> None:
    async def main() -> None:
        engine = Engine([HangsLoading, HangsLoading])
        starting = asyncio.create_task(engine.start())
        await asyncio.to_thread(log.wait_for, "loading")
        await engine.close()
        with pytest.raises(Draining):
            await starting

    run_async(main())


def test_an_engine_drained_while_a_replica_loads_does_not_wait_for_the_model(
    leaves_nothing: None, log: LogWatch, tmp_path: Any
) -> None:
    async def main() -> None:
        engine = Engine(partial(LoadsOnce, str(tmp_path / "note")))
        async with engine:
            os.kill(await engine.submit("pid"), signal.SIGKILL)
            await asyncio.to_thread(log.wait_for, "loading again")
            assert await engine.drain()

    run_async(main())


@pytest.mark.parametrize("factory", [lambda: Obedient(), DoesNotLoad])
def test_a_factory_that_makes_no_worker_is_a_reason_and_not_a_wait_for_ever(
    factory: Any, leaves_nothing: None
) -> None:
    async def main() -> None:
        with pytest.raises(RunnerFailed):
            async with Engine(factory):
                raise AssertionError("it must not come this far")

    run_async(main())


def test_an_engine_of_processes_leaves_nothing_behind(leaves_nothing: None) -> None:
    async def main() -> None:
        async with Engine([Obedient, Obedient]) as engine:
            assert sorted(await asyncio.gather(*ask(engine, "a", "b", "c"))) == ["a", "b", "c"]

    run_async(main())


def test_it_introduces_itself() -> None:
    assert repr(Engine([Echo, Echo])) == (
        "<Engine 2 replicas, <Collector open, <Schedule 0 waiting, 0 replicas busy>>>"
    )


# Faults: one request never hurts another


def mates(engine: Engine, culprit: str, count: int = 7) -> list[asyncio.Task[Any]]:
    """A culprit in the middle of others, in one batch if nothing runs."""
    names = [f"mate {number}" for number in range(count)]
    return ask(engine, *names[: count // 2], culprit, *names[count // 2 :])


def check_mates(outcomes: list[Any], count: int = 7) -> Any:
    """Each mate has its own answer; returns the culprit's."""
    culprit = outcomes.pop(count // 2)
    assert outcomes == [f"mate {number}" for number in range(count)]
    return culprit


@pytest.mark.parametrize("payload", ["exit", "garbage", "torn"])
def test_a_request_that_kills_each_worker_fails_alone_and_is_kept_out(
    leaves_nothing: None, payload: str
) -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            outcomes = await asyncio.gather(*mates(engine, payload), return_exceptions=True)
            assert isinstance(check_mates(outcomes), PoisonRequest)
            snapshot = await engine.snapshot()
            assert sum(snapshot.replicas[0].restarts.values()) == 3
            assert (snapshot.poison, snapshot.ok, snapshot.failed) == (1, 7, 1)
            with pytest.raises(PoisonRequest, match="refused"):
                await engine.submit(payload)
            after = await engine.snapshot()
            assert after.refused == {"PoisonRequest": 1}
            assert await engine.submit("a") == "a"
            assert (await engine.snapshot()).replicas[0].restarts == after.replicas[0].restarts

    run_async(main())


def test_a_request_that_hangs_fails_alone_and_its_mates_are_answered(leaves_nothing: None) -> None:
    async def main() -> None:
        async with Engine(Obedient, limits=Limits(hang_after=0.05)) as engine:
            assert await engine.submit("a") == "a"  # from here on the cost model knows a batch
            outcomes = await asyncio.gather(*mates(engine, "hang"), return_exceptions=True)
            culprit = check_mates(outcomes)
            assert isinstance(culprit, PoisonRequest)
            assert "no answer within" in str(culprit)
            assert "BATCHER_HANG_AFTER_MS" in str(culprit)
            assert (await engine.snapshot()).replicas[0].restarts == {"hang": 3}

    run_async(main())


def test_a_worker_killed_in_the_middle_of_a_batch_costs_nobody_an_answer(
    leaves_nothing: None, tmp_path: Path, log: LogWatch
) -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            once = ("kill once", str(tmp_path / "note"))
            outcomes = await asyncio.gather(*mates(engine, once))  # type: ignore[arg-type]
            assert check_mates(outcomes) == once
            snapshot = await engine.snapshot()
            assert (snapshot.ok, snapshot.retried) == (8, 8)
            assert snapshot.batches == {"idle": 1, "retry": 1}

    run_async(main())
    log.wait_for(
        "worker-0 died (signal 9) while running 8 requests; retrying them on the next worker"
    )


def test_a_batch_too_large_for_the_memory_runs_in_halves_and_none_is_as_large_again(
    leaves_nothing: None,
) -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            first = await asyncio.gather(*mates(engine, "memory"))
            assert check_mates(first) == "memory"
            (replica,) = (await engine.snapshot()).replicas
            assert (replica.safe_size, replica.restarts) == (2, {})
            splits = (await engine.snapshot()).batches["split"]
            assert check_mates(await asyncio.gather(*mates(engine, "memory"))) == "memory"
            assert (await engine.snapshot()).batches["split"] == splits

    run_async(main())


def test_thirty_one_mates_of_a_culprit_are_answered_within_the_bound_of_extra_runs() -> None:
    async def main() -> None:
        async with Engine(Obedient) as engine:
            for _ in range(3):
                outcomes = await asyncio.gather(*mates(engine, "raise", 31), return_exceptions=True)
                assert str(check_mates(outcomes, 31)) == "ValueError: a bad input"
            assert (await engine.snapshot()).batches["split"] <= 3 * 2 * 5

    run_async(main())


def test_equal_poison_costs_three_workers_however_often_it_comes(leaves_nothing: None) -> None:
    async def main() -> None:
        async with Engine(Obedient, limits=Limits(max_batch_size=4)) as engine:
            outcomes = await asyncio.gather(*ask(engine, *["exit"] * 12), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {PoisonRequest}
            assert (await engine.snapshot()).replicas[0].restarts == {"exit code 7": 3}

    run_async(main())


def test_a_replica_that_every_request_kills_is_broken_and_condemns_few(
    leaves_nothing: None,
) -> None:
    async def main() -> None:
        engine = Engine(BreaksOnRequests)
        await engine.start(canary="canary", canary_interval=3600.0)
        outcomes = await asyncio.gather(
            *ask(engine, *(f"innocent {number}" for number in range(8))), return_exceptions=True
        )
        assert Counter(type(outcome) for outcome in outcomes) == {PoisonRequest: 2, NotReady: 6}
        assert (await engine.snapshot()).replicas[0].state == "broken"
        with pytest.raises(NotReady, match="signal 9"):
            await engine.submit("one more")
        await engine.close()

    run_async(main())


def test_a_failing_canary_without_a_process_of_its_own_is_not_tried_again_at_once() -> None:
    runner = Fussy()

    async def main() -> None:
        engine = Engine(lambda: runner, isolation="thread")
        await engine.start(canary="canary", canary_interval=3600.0)
        assert await engine.submit("a") == "a"
        assert runner.canaries == 1
        await engine.drain()
        await engine.close()

    run_async(main())


class Fussy(Echo):
    canaries = 0

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        if payloads[0] == "canary":
            self.canaries += 1
            raise ValueError("no canaries")
        return super().run(payloads)


def test_an_engine_is_there_as_soon_as_one_replica_is(leaves_nothing: None) -> None:
    async def main() -> None:
        async with Engine([HangsLoading, Obedient]) as engine:
            assert await engine.submit("a") == "a"

    run_async(main())


def test_a_worker_that_dies_while_it_loads_is_started_again_until_it_does_not(
    leaves_nothing: None, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Engine(partial(DiesLoading, str(tmp_path / "note"))) as engine:
            assert await engine.submit("a") == "a"

    run_async(main())


def test_an_idle_replica_is_tried_and_one_that_fails_is_replaced(leaves_nothing: None) -> None:
    async def main() -> None:
        engine = Engine(Obedient)
        await engine.start(canary="raise", canary_interval=3600.0)
        restarted = await asyncio.to_thread(_first_loss, engine._collector)
        assert restarted == {"canary": 1}
        await engine.close()

    run_async(main())


def _first_loss(collector: Collector) -> dict[str, int]:
    until(collector, lambda all_: all_._supervision.replicas[0].restarts)
    return dict(collector._supervision.replicas[0].restarts)
