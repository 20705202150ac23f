"""Good requests at 70 % load, and among them drills, disconnects, malformed bodies and kills."""

import contextlib
import http.client
import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator

from loadtests.chaos.bench import Bench
from loadtests.drivers.background_load import encode
from loadtests.drivers.history import Call
from loadtests.drivers.http_client import Answer
from loadtests.drivers.timer import now

# What a settled mix may end with, beside 200: refusals that say when to come back.
ALLOWED = ("200", "429", "503")
CULPRITS = ("fault:raise", "fault:exit", "fault:hang", "fault:nan")
INJECTS = dict.fromkeys((*CULPRITS, "SIGKILL", "malformed", "left"), 1)  # In every round.
INJECTS_FIRST = INJECTS | {"fault:oom": 1}  # From then on the batches are too small for it.
LOAD = 0.7
TIMEOUT = 30.0
MALFORMED = (b"", b"{", b"[]", b'{"inputs": 7}', b'{"inputs": "\xff"}', b"null", b'{"input": "x"}')
# After the first out of memory the service keeps its batches small, for minutes: an accelerator
# whose batches of two do 170/s of its 200 is still not overloaded then.
ENV = {
    "BATCHER_HANG_AFTER_MS": "1000",
    "BATCHER_SIM_FIXED_MS": "2",
    "BATCHER_SIM_PER_ITEM_MS": "4.9",
}

# One request in so many is a drill; those that cost a worker are set by the clock instead.
_RAISE, _NAN, _OOM = 200, 300, 300
_EXIT_AT, _KILL_AT, _HANG_AT = 0.1, 0.3, 0.5  # Of a round.


def is_culprit(text: str) -> bool:
    """Whose own answer may be 500."""
    return text.startswith(CULPRITS)


def round_of(bench: Bench, seconds: float, seed: int) -> list[Call]:
    """All calls of one round, ended. Faults leave half of it to recover in."""
    calls: list[Call] = []
    stop = threading.Event()
    strangers = threading.Thread(target=_strangers, args=(bench, stop, calls, seed))
    splits = _splits(bench)
    began = now()
    with bench.load(
        bench.capacity * LOAD, texts=_texts(bench, seed), timeout=TIMEOUT, seed=seed
    ) as load:
        strangers.start()
        try:
            for share, fault in ((_EXIT_AT, "exit"), (_KILL_AT, "kill"), (_HANG_AT, "hang")):
                time.sleep(max(0.0, began + share * seconds - now()))
                if fault == "kill":
                    _kill(bench)
                else:
                    calls.append(bench.post(bench.text(f"fault:{fault}"), timeout=TIMEOUT))
            time.sleep(max(0.0, began + seconds - now()))
        finally:
            stop.set()
            strangers.join()
    calls += load.calls
    _acknowledge(bench, calls, splits)
    return calls


def unexpected(calls: list[Call]) -> list[Call]:
    """Neither answered, nor refused with a hint, nor 500 for its own fault."""
    return [
        call
        for call in calls
        if call.outcome not in (*ALLOWED, "left", "400", "422")
        and not (call.status == 500 and is_culprit(call.text))
    ]


def _texts(bench: Bench, seed: int) -> Iterator[str]:
    offset = random.Random(seed).randrange(1000)
    for number in itertools.count(offset):
        if number % _RAISE == 0:
            yield bench.text("fault:raise")
        elif number % _NAN == 1:
            yield bench.text("fault:nan")
        elif number % _OOM == 2:
            yield bench.text("fault:oom")
        else:
            yield bench.text()


def _kill(bench: Bench) -> None:
    """The worker, or the next one if it is being replaced: the round needs one death."""

    def killed() -> bool:
        with contextlib.suppress(ProcessLookupError):
            pid = bench.worker_pids()[0]
            if pid:
                bench.kill(pid)
            return bool(pid)
        return False

    bench.wait_until("a worker to kill", killed, 10.0)


def _acknowledge(bench: Bench, calls: list[Call], splits: int) -> None:
    """By their effects: only the fault itself explains that status for that text."""
    for fault in CULPRITS:
        ended = [call for call in calls if call.text.startswith(fault)]
        bench.injections.acknowledge(fault, sum(call.status == 500 for call in ended))
    bench.injections.acknowledge("fault:oom", _splits(bench) - splits)
    bench.injections.acknowledge("malformed", sum(call.status in (400, 422) for call in calls))
    bench.injections.acknowledge("left", sum(call.outcome == "left" for call in calls))


def _splits(bench: Bench) -> int:
    return int(bench.metrics().get("batcher_batches_total", reason="split"))


def _strangers(bench: Bench, stop: threading.Event, calls: list[Call], seed: int) -> None:
    """A client that leaves, and one that cannot spell, by turns: four a second."""
    chance = random.Random(seed)
    while not stop.wait(0.25):
        malformed = chance.random() < 0.5
        calls.append(_malformed(bench, chance.choice(MALFORMED)) if malformed else _leaves(bench))


def _malformed(bench: Bench, body: bytes) -> Call:
    call = bench.history.begin("malformed", 10.0, now())
    call.sent = now()
    connection = http.client.HTTPConnection(bench.host, bench.port, timeout=11.0)
    try:
        connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        headers = tuple((n.lower().encode(), v.encode()) for n, v in answer.getheaders())
        call.settle(Answer(answer.status, b"", answer.read(), headers=headers))
    except TimeoutError:
        return call  # The history shows that nothing came.
    except (OSError, http.client.HTTPException) as error:
        call.settle(Answer(error=type(error).__name__))
    finally:
        connection.close()
    return call


def _leaves(bench: Bench) -> Call:
    """Sends a whole request and closes with a reset before the answer can be there."""
    call = bench.history.begin(bench.text(), 10.0, now())
    call.sent = now()
    with socket.create_connection((bench.host, bench.port), 5.0) as client:
        client.sendall(encode(bench.target, call.text, 10.0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    call.settle(Answer(error="left"))
    return call
