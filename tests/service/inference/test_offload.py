from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from batcher import DeadlineExceeded, Overloaded
from batcher.clock import MonotonicClock
from service.http import body
from service.inference.offload import OffloadPool
from service.state import AppState
from service.tasks import text_inputs
from service.tasks.embed import Embed
from service.tasks.protocol import DEFAULT_OPTIONS, Options
from tests.fakes import FakeClock, Signal, run_async

LATE = 1000.0


class Gate:
    """Work that stops until it is let go."""

    def __init__(self) -> None:
        self.started = Signal("no work began")
        self.thread = ""
        self._gate = Signal("nobody let it go")

    def __call__(self) -> str:
        self.thread = threading.current_thread().name
        self.started.give()
        self._gate.wait()
        return "done"

    def open(self) -> None:
        self._gate.give(100)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


def test_work_is_done_in_a_thread_of_that_name(gate: Gate) -> None:
    aside = OffloadPool(FakeClock())
    gate.open()
    assert run_async(aside.run(LATE, gate)) == "done"
    assert gate.thread.startswith("tokenise")
    aside.close()


def test_one_caller_leaves_room_for_the_next(gate: Gate) -> None:
    async def main() -> None:
        aside = OffloadPool(FakeClock(), threads=1, max_in_flight=18)
        hog = [asyncio.ensure_future(aside.run(LATE, gate, caller="hog")) for _ in range(16)]
        await gate.started.wait_async()
        with pytest.raises(Overloaded):
            await aside.run(LATE, gate, caller="hog")
        new = asyncio.ensure_future(aside.run(LATE, gate, caller="new"))
        gate.open()
        assert await asyncio.gather(*hog, new) == ["done"] * 17
        assert await aside.run(LATE, gate, caller="hog") == "done"  # what it held came back
        aside.close()

    run_async(main())


def test_above_the_bound_work_is_refused_and_room_comes_back(gate: Gate) -> None:
    async def main() -> None:
        aside = OffloadPool(FakeClock(), threads=1, max_in_flight=2)
        two = [asyncio.ensure_future(aside.run(LATE, gate)) for _ in range(2)]
        await gate.started.wait_async()
        with pytest.raises(Overloaded) as refused:
            await aside.run(LATE, gate)
        assert refused.value.retry_after > 0
        gate.open()
        assert await asyncio.gather(*two) == ["done", "done"]
        assert await aside.run(LATE, gate) == "done"
        aside.close()

    run_async(main())


def test_the_deadline_holds_while_work_waits(gate: Gate) -> None:
    async def main() -> None:
        clock = MonotonicClock()
        aside = OffloadPool(clock, threads=1, max_in_flight=2)
        running = asyncio.ensure_future(aside.run(clock.now() + 60, gate))
        await gate.started.wait_async()
        with pytest.raises(DeadlineExceeded):
            await aside.run(clock.now() + 0.01, gate)
        with pytest.raises(DeadlineExceeded):
            await aside.run(clock.now() - 1, gate)
        second = asyncio.ensure_future(aside.run(clock.now() + 60, gate))  # the room came back
        gate.open()
        assert await asyncio.gather(running, second) == ["done", "done"]
        aside.close()

    run_async(main())


def test_a_caller_that_goes_takes_its_waiting_work_along(gate: Gate) -> None:
    async def main() -> None:
        ran: list[int] = []
        aside = OffloadPool(FakeClock(), threads=1)
        running = asyncio.ensure_future(aside.run(LATE, gate))
        await gate.started.wait_async()
        gone = asyncio.ensure_future(aside.run(LATE, ran.append, 1))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.open()
        await running
        await aside.run(LATE, ran.append, 2)
        assert ran == [2]
        aside.close()

    run_async(main())


def test_closing_and_the_loops_own_threads_do_not_wait_for_it(gate: Gate) -> None:
    async def main() -> None:
        aside = OffloadPool(FakeClock(), threads=1)
        running = asyncio.ensure_future(aside.run(LATE, gate))
        await gate.started.wait_async()
        await asyncio.to_thread(lambda: None)  # as the engine's drain and close are run
        aside.close()
        gate.open()
        assert await running == "done"

    run_async(main())


class Watched:
    """Prepares as the fake's preparer does, and tells in which thread."""

    def __init__(self, front: AppState) -> None:
        assert front.served is not None
        self._preparer: Any = front.served.task(Embed).preprocessor
        self.max_length = self._preparer.max_length
        self.long_text = 100
        self.many_ids = self._preparer.many_ids
        self.threads: list[str] = []

    def prepare(self, text: str, options: Options = DEFAULT_OPTIONS) -> Any:
        self.threads.append(threading.current_thread().name)
        return self._preparer.prepare(text, options)

    def prepare_ids(self, ids: list[int], options: Options = DEFAULT_OPTIONS) -> Any:
        self.threads.append(threading.current_thread().name)
        return self._preparer.prepare_ids(ids, options)


@pytest.fixture
def watched(front: AppState) -> Watched:
    made = Watched(front)
    assert front.served is not None
    front.served.task(Embed).preprocessor = made
    return made


@pytest.mark.parametrize(
    ("given", "is_aside"),
    [
        ("short", False),
        ("long " * 100, True),
        (["short", "long " * 100], True),
        ([1] * text_inputs.MANY_IDS, False),
        ([1] * (text_inputs.MANY_IDS + 1), True),
        ([[1] * text_inputs.MANY_IDS, [1]], True),
        (["short"] * 33, True),
    ],
)
def test_what_is_long_is_tokenised_off_the_loop(
    http: TestClient, watched: Watched, given: Any, is_aside: bool
) -> None:
    assert http.post("/embed", json={"inputs": given}).status_code == 200
    assert {name.startswith("tokenise") for name in watched.threads} == {is_aside}


@pytest.mark.parametrize("more", [0, 1])
def test_a_large_body_is_parsed_off_the_loop(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    threads = []
    loads = orjson.loads

    def watch(data: bytes) -> Any:
        threads.append(threading.current_thread().name)
        return loads(data)

    monkeypatch.setattr(orjson, "loads", watch)
    content = b'{"inputs":"a"}'.ljust(body.LARGE + more)
    assert http.post("/embed", content=content).status_code == 200
    assert [name.startswith("tokenise") for name in threads] == [bool(more)]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]".ljust(100_000), b'{"a' * 50_000])
def test_a_large_body_that_is_no_json_is_400(http: TestClient, content: bytes) -> None:
    assert http.post("/embed", content=content).status_code == 400


@pytest.mark.parametrize("given", ["long " * 100, ["short"] * 33, "a" * body.LARGE])
def test_too_many_long_inputs_are_429_with_a_time_to_come_back(
    http: TestClient, front: AppState, watched: Watched, given: Any
) -> None:
    full = OffloadPool(front.clock, max_in_flight=0)
    front.offload = front.pipeline.offload = full
    answer = http.post("/embed", json={"inputs": given})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error_type"] == "Overloaded"
    assert http.post("/embed", json={"inputs": "short"}).status_code == 200


def test_bad_headers_are_told_before_any_tokenising(http: TestClient, watched: Watched) -> None:
    bad = {"x-request-timeout-ms": "soon"}
    for inputs in ("short", "long " * 100, ["short", "b"]):
        assert http.post("/embed", json={"inputs": inputs}, headers=bad).status_code == 400
    assert watched.threads == []


def test_too_many_ids_are_refused_before_each_is_looked_at(
    http: TestClient, watched: Watched
) -> None:
    answer = http.post("/embed", json={"inputs": [1] * 17, "truncate": False})
    assert answer.status_code == 422
    assert "must have less than 16 tokens. Given: at least 17" in answer.json()["error"]
    assert watched.threads == []


def test_refused_work_is_freed_with_the_refusal() -> None:
    """A ring of the error and its frames would hold every refused body until a collection."""

    class Body:
        pass

    def refuse(_: Body) -> None:
        raise ValueError("refused")

    async def main() -> bool:
        aside, body = OffloadPool(MonotonicClock()), Body()
        held = weakref.ref(body)
        with contextlib.suppress(ValueError):
            await aside.run(aside_deadline(), refuse, body)
        aside._threads.shutdown()  # a thread may still be on its last line
        del body
        await asyncio.sleep(0)  # the step of a task that threw it in holds it until it ends
        return held() is None

    def aside_deadline() -> float:
        return MonotonicClock().now() + 60

    gc.disable()
    try:
        assert run_async(main())
    finally:
        gc.enable()
