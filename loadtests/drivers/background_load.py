"""Open-loop load from a thread of its own: sends on schedule, whatever becomes of the service."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import uvloop

from loadtests.drivers.history import Call, History
from loadtests.drivers.http_client import Answer, Pool
from loadtests.drivers.reference_answers import EMBED, Ask
from loadtests.drivers.target import Target
from loadtests.drivers.timer import Timer, now

SENDS_A_TURN = 64  # So that a driver that fell behind still reads the answers.
GRACE_SECONDS = 1.0  # Beyond its deadline, before a request counts as never answered.


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent. `texts` may be endless; the load ends with it, or when it is stopped."""

    rate: float
    texts: Iterator[str]
    timeout: float = 10.0  # Seconds; the service is told.
    headers: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None  # The loopback address to come from.
    seed: int = 1
    limit: int = 16_384  # Connections.
    ask: Ask = EMBED  # What each text asks for.


class Load:
    """`with Load(...) as load:` sends in the block; leaving it waits for the last outcome.

    Arrivals are Poisson, at absolute times drawn beforehand. A request that has no outcome
    GRACE_SECONDS after its deadline keeps none: the history shows it as invoked.
    """

    def __init__(self, target: Target, history: History, plan: Plan) -> None:
        self._target, self._history, self._plan = target, history, plan
        self.calls: list[Call] = []  # Of this load alone.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], None] = lambda: None
        self._running = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        self._running.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Sends nothing more, and returns when all that was sent has its outcome or is overdue."""
        self._stop()
        self._thread.join()
        if self._problem is not None:
            raise RuntimeError(f"the load failed: {self._problem!r}") from self._problem

    def _main(self) -> None:
        try:
            uvloop.run(self._drive())
        except BaseException as error:  # Handed to whoever stops the load.
            self._problem = error
        finally:
            self._running.set()

    async def _drive(self) -> None:
        loop, plan = asyncio.get_running_loop(), self._plan
        pool = Pool(self._target, plan.limit, True, plan.source, once_more=False)
        stopping, idle = asyncio.Event(), asyncio.Event()
        self._stop = _once(loop, stopping.set)
        rng = np.random.default_rng(plan.seed)
        texts = iter(plan.texts)
        due = now() + 0.05 + rng.exponential(1 / plan.rate)
        outstanding = 0

        def settled(call: Call) -> Callable[[Answer], None]:
            def settle(answer: Answer) -> None:
                nonlocal outstanding
                outstanding -= 1
                call.settle(answer)
                if not outstanding:
                    idle.set()

            return settle

        def send_what_is_due() -> None:
            nonlocal due, outstanding
            for _ in range(SENDS_A_TURN):
                if stopping.is_set() or now() < due:
                    break
                text = next(texts, None)
                if text is None:
                    stopping.set()
                    break
                call = self._history.begin(text, plan.timeout, due, plan.ask)
                self.calls.append(call)
                call.sent = now()
                outstanding += 1
                idle.clear()
                request = encode(self._target, text, plan.timeout, plan.headers, plan.ask)
                pool.send(request, settled(call))
                due += rng.exponential(1 / plan.rate)
            if not stopping.is_set():
                timer.set(due)

        timer = Timer(loop, send_what_is_due)
        timer.set(due)
        self._running.set()
        await stopping.wait()
        timer.close()
        if outstanding:
            last = max(call.sent for call in self.calls) + plan.timeout + GRACE_SECONDS
            try:
                await asyncio.wait_for(idle.wait(), max(0.0, last - now()))
            except TimeoutError:
                print(f"  {outstanding} requests were never answered", flush=True)
        for call in self.calls:
            call.abandoned = True  # What closing the pool says is not the service's answer.
        await pool.close()


def callers(
    target: Target, history: History, texts: Iterator[str], count: int, seconds: float
) -> list[Call]:
    """`count` callers who send again at once, refused or not. Returns their calls, all ended.

    A closed loop: right for callers that wait for their answer, no measure of an overload.
    """
    calls: list[Call] = uvloop.run(_call_again(target, history, texts, count, seconds))
    return calls


async def _call_again(
    target: Target, history: History, texts: Iterator[str], count: int, seconds: float
) -> list[Call]:
    pool = Pool(target, keep_bodies=True, once_more=False)
    ended, calls, end, busy = asyncio.Event(), list[Call](), now() + seconds, count
    timeout = 10.0

    def send() -> None:
        call = history.begin(next(texts), timeout, now())
        call.sent = call.scheduled
        calls.append(call)
        pool.send(encode(target, call.text, timeout), lambda answer: settle(call, answer))

    def settle(call: Call, answer: Answer) -> None:
        nonlocal busy
        call.settle(answer)
        if now() < end and not answer.error:
            # After this answer's turn: a caller does not call from within its answer.
            asyncio.get_running_loop().call_soon(send)
        else:
            busy -= 1
            if not busy:
                ended.set()

    for _ in range(count):
        send()
    try:
        await asyncio.wait_for(ended.wait(), seconds + timeout + GRACE_SECONDS)
    except TimeoutError:
        print("  some requests were never answered", flush=True)
    for call in calls:
        call.abandoned = True
    await pool.close()
    return calls


def encode(
    target: Target,
    text: str,
    timeout: float | None,
    headers: Mapping[str, str] | None = None,
    ask: Ask = EMBED,
) -> bytes:
    """The request of one text."""
    body = json.dumps(ask.body(text), ensure_ascii=False).encode()
    lines = [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
    if timeout is not None:
        lines.append(f"X-Request-Timeout-Ms: {timeout * 1e3:.0f}\r\n")
    head, _, rest = target.post(ask.path, body).partition(b"\r\n\r\n")
    return head + b"\r\n" + "".join(lines).encode("ascii") + b"\r\n" + rest


def _once(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    """Safe from any thread, and when the loop has ended."""

    def stop() -> None:
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(call)
            except RuntimeError:
                return  # It closed between the question and the call.

    return stop
