"""A real `python -m service` of several processes, from outside: each may be killed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from service.models.simulated import answers
from tests.service import hasty
from tests.service.processes.test_server import (
    DEADLINE,
    ROOT,
    Server,
    command,
    ends,
    loading,
    worker_of,
)

FRONTS = 2


PIDFD_GETFD = 438  # the number of the system call, on every architecture


def several(*flags: str, module: str = "service") -> Server:
    """Whose worker may hang for as long as it likes."""
    fixed = ("--runner", "simulated", "--frontends", str(FRONTS), "--hang-after-ms", "600000")
    return Server(*fixed, *flags, module=module)


def child(server: Server, name: str) -> int:
    """The newest process of that name: it says its own in the log."""
    found = [
        int(said[1])
        for line in server.log
        if (said := re.search(rf" {name}: service: started as process (\d+)", line))
    ]
    assert found, "\n".join(server.log)
    return found[-1]


@contextlib.contextmanager
def each_front(server: Server) -> Iterator[list[httpx2.Client]]:
    """A connection to each: the kernel deals them out, so some are tried."""
    with contextlib.ExitStack() as stack:
        found: dict[int, httpx2.Client] = {}

        def look() -> bool:
            http = stack.enter_context(httpx2.Client(base_url=server.url, timeout=DEADLINE))
            found.setdefault(front_of(server, http), http)
            return len(found) == FRONTS

        server.until(look)
        yield [found[number] for number in sorted(found)]


def front_of(server: Server, http: httpx2.Client) -> int:
    """The number of the front that a connection ended up with: it holds the other end."""
    http.get("/health/live")
    pool: Any = http._transport
    [connection] = pool._pool.connections
    port = connection._connection._network_stream.get_extra_info("client_addr")[1]
    for number in range(FRONTS):
        if port in peers_of(child(server, f"frontend-{number}")):
            return number
    raise AssertionError("no front holds it")


def peers_of(pid: int) -> set[int]:
    """Ports of the clients that a process is connected to."""
    mine = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    peers = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if f"socket:[{words[9]}]" in mine:
            peers.add(int(words[2].rpartition(":")[2], 16))
    return peers


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Each test may kill what it likes of it: it comes back."""
    with several() as made:
        yield made
        losses = lost(made)
        assert made.end() == 0
        assert lost(made) == losses  # the end is none


def way_to_the_engine(server: Server, name: str) -> socket.socket:
    """The front's own end of it: its one stream that the supervisor has made."""
    handle = os.pidfd_open(child(server, name))
    found = []
    for entry in Path(f"/proc/{child(server, name)}/fd").iterdir():
        if not os.readlink(entry).startswith("socket:"):
            continue
        fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, handle, int(entry.name), 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "no descriptor of another process")
        end = socket.socket(fileno=fd)
        made_by = 0
        if (end.family, end.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
            credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            made_by = int.from_bytes(credentials[:4], sys.byteorder)
        if made_by == server.process.pid:
            found.append(end)
        else:
            end.close()
    os.close(handle)
    [way] = found
    return way


def lost(server: Server) -> int:
    return sum("lost its engine connection" in line for line in server.log)


def requests_total(page: str) -> collections.Counter[str]:
    found = re.findall(r'^batcher_requests_total\{outcome="ok",route="([^"]+)"\} (.+)$', page, re.M)
    return collections.Counter({route: int(float(count)) for route, count in found})


def test_every_front_gives_the_answers_and_speaks_for_the_whole(server: Server) -> None:
    texts = [f"text {number}" for number in range(40)]
    with each_front(server) as fronts:
        before = requests_total(fronts[0].get("/metrics").text)
        for http in fronts:
            got = [http.post("/embed", json={"inputs": text}).json() for text in texts]
            np.testing.assert_array_equal(np.float32(got)[:, 0], answers(texts))
            many = http.post("/embed", json={"inputs": texts})
            np.testing.assert_array_equal(np.float32(many.json()), answers(texts))
            assert "batch;desc=" in many.headers["server-timing"]
            assert http.get("/health/ready").status_code == 200
        for http in fronts:
            told = requests_total(http.get("/metrics").text)
            assert told["/embed"] - before["/embed"] == FRONTS * (len(texts) + 1)
            stats = http.get("/stats").json()
            assert stats["fronts"] == {"0": True, "1": True}
            ended = sum(stats[name] for name in ("ok", "failed", "expired", "cancelled"))
            assert stats["accepted"] == ended + stats["waiting"] + stats["running"]
            assert stats["ok"] >= FRONTS * 2 * len(texts)
            assert http.get("/stats/batches").json()[0]["size"] >= 1
            assert (http.get("/info").json()["frontends"], stats["ready"]) == (FRONTS, True)
            assert http.post("/embed", json={"inputs": "fault:raise"}).status_code == 500


def test_a_killed_front_loses_its_own_and_is_replaced_and_no_counter_falls(server: Server) -> None:
    said = len(server.log)
    with each_front(server) as (dying, living):
        assert dying.post("/embed", json={"inputs": "a"}).status_code == 200
        before = requests_total(living.get("/metrics").text)
        cancelled = living.get("/stats").json()["cancelled"]
        lost: list[str] = []

        def ask(http: httpx2.Client) -> None:
            try:
                lost.append(str(http.post("/embed", json={"inputs": "fault:hang"}).status_code))
            except httpx2.HTTPError:
                lost.append("gone")

        caller = threading.Thread(target=ask, args=(dying,))
        caller.start()
        server.until(lambda: living.get("/stats").json()["running"] == 1)
        os.kill(child(server, "frontend-0"), signal.SIGKILL)
        caller.join()
        assert lost == ["gone"]
        server.until(lambda: living.get("/stats").json()["cancelled"] == cancelled + 1)
        server.heard("frontend-0 died (signal 9)", said)
        server.heard("frontend-0 is up again", said)
        stats = living.get("/stats").json()
        assert (stats["fronts"], stats["running"]) == ({"0": True, "1": True}, 0)
        after = requests_total(living.get("/metrics").text)
        assert after["/embed"] == before["/embed"]
        assert all(after[route] >= count for route, count in before.items())
        os.kill(stats["replicas"][0]["facts"]["pid"], signal.SIGKILL)  # it hangs


def test_a_killed_engine_is_503_for_what_it_had_and_comes_back(server: Server) -> None:
    said = len(server.log)
    with each_front(server) as fronts:
        for http in fronts:
            http.post("/embed", json={"inputs": "a"})
            assert requests_total(http.get("/metrics").text)["/embed"] >= 1
        worker, accepted = server.worker(), server.stats()["accepted"]
        statuses: list[tuple[int, str]] = []

        def ask(http: httpx2.Client) -> None:
            answer = http.post("/embed", json={"inputs": "fault:hang"})
            statuses.append((answer.status_code, answer.headers["retry-after"]))

        callers = [threading.Thread(target=ask, args=(http,)) for http in fronts]
        for caller in callers:
            caller.start()
        server.until(lambda: server.stats()["accepted"] == accepted + len(callers))
        os.kill(child(server, "engine"), signal.SIGKILL)
        for caller in callers:
            caller.join()
        assert {status for status, _ in statuses} == {503}
        assert all(int(seconds) >= 1 for _, seconds in statuses)
        assert ends(worker)
        refused = server.http.post("/embed", json={"inputs": "a"})
        ready = server.http.get("/health/ready")
        assert (refused.status_code, ready.status_code) == (503, 503)
        assert "engine" in ready.json()["reason"] or "loading" in ready.json()["reason"]
        assert server.http.get("/health/live").status_code == 200
        server.heard("engine is up again", said)
        for http in fronts:  # the same connections as before
            assert http.get("/health/ready").status_code == 200
            got = http.post("/embed", json={"inputs": "a"}).json()
            np.testing.assert_array_equal(np.float32(got), answers(["a"]))
        # Anew, for all: a front that went on counting would look like as many new requests.
        assert requests_total(http.get("/metrics").text)["/embed"] == len(fronts)


def test_a_front_whose_way_to_a_living_engine_breaks_is_joined_to_it_anew(server: Server) -> None:
    with each_front(server) as fronts:
        pids = [child(server, name) for name in ("engine", "frontend-0", "frontend-1")]
        for http in fronts:
            http.post("/embed", json={"inputs": "a"})
        before = requests_total(fronts[1].get("/metrics").text)
        seen = [collections.Counter[int]() for _ in fronts]
        over = threading.Event()

        def ask(http: httpx2.Client, statuses: collections.Counter[int]) -> None:
            while not over.is_set():
                answer = http.post("/embed", json={"inputs": "a"})
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    np.testing.assert_array_equal(np.float32(answer.json()), answers(["a"]))

        def reached(losses: int, answered: int) -> bool:
            server.http.get("/health/live")
            return lost(server) >= losses and seen[0][200] > answered

        callers = [
            threading.Thread(target=ask, args=each) for each in zip(fronts, seen, strict=True)
        ]
        for caller in callers:
            caller.start()
        for losses in (lost(server) + 1, lost(server) + 2):
            with way_to_the_engine(server, "frontend-0") as way:
                way.shutdown(socket.SHUT_RDWR)
            server.until(functools.partial(reached, losses, 0))
            # The next answer may be of before the loss; the one after it went the new way.
            server.until(functools.partial(reached, losses, seen[0][200] + 1))
        over.set()
        for caller in callers:
            caller.join()
        assert {status for statuses in seen for status in statuses} <= {200, 503}
        assert [child(server, name) for name in ("engine", "frontend-0", "frontend-1")] == pids
        stats = fronts[0].get("/stats").json()
        assert (stats["fronts"], stats["running"]) == ({"0": True, "1": True}, 0)
        after = requests_total(fronts[1].get("/metrics").text)
        assert all(after[route] >= count for route, count in before.items())


def test_stopped_ones_are_killed_and_replaced_and_a_killed_supervisor_leaves_nobody() -> None:
    with several(module="tests.service.hasty") as server, each_front(server) as (_, living):
        for name in ("frontend-0", "engine"):
            os.kill(child(server, name), signal.SIGSTOP)
            server.heard(f"{name} has not answered for {hasty.BOUND:g} s; killing it")
            server.heard(f"{name} died (signal 9)")
            server.heard(f"{name} is up again")
            got = living.post("/embed", json={"inputs": "a"})
            np.testing.assert_array_equal(np.float32(got.json()), answers(["a"]))
        assert sum("has not answered" in line for line in server.log) == 2
        pids = [child(server, name) for name in ("engine", "frontend-0", "frontend-1")]
        worker = server.worker()
        server.process.kill()
        assert all(ends(pid) for pid in (*pids, worker))


def test_a_front_that_is_replaced_after_the_signal_is_not_ready_and_a_second_one_ends_all() -> None:
    with several("--drain-delay-ms", "600000") as server:
        server.http.close()
        server.process.send_signal(signal.SIGTERM)
        server.heard("new requests are refused in 600 s")
        os.kill(child(server, "frontend-0"), signal.SIGKILL)
        server.heard("frontend-0 is up again")
        os.kill(child(server, "frontend-1"), signal.SIGSTOP)  # the other takes all connections
        ready = httpx2.get(server.url + "/health/ready", timeout=DEADLINE)
        assert (ready.status_code, "shutting down" in ready.text) == (503, True)
        pids = [child(server, name) for name in ("engine", "frontend-0", "frontend-1")]
        server.process.send_signal(signal.SIGTERM)
        assert server.close() == 128 + signal.SIGTERM
        assert all(ends(pid) for pid in pids)


def test_sigterm_answers_everything_accepted_at_every_front_and_exits_zero() -> None:
    accepted = 40
    with several("--sim-fixed-ms", "100", "--max-batch-size", "4") as server:
        pids = [child(server, name) for name in ("engine", "frontend-0", "frontend-1")]
        worker = server.worker()
        server.http.close()

        async def load() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(
                base_url=server.url, timeout=DEADLINE, limits=httpx2.Limits(max_connections=200)
            ) as http:
                asked = [
                    asyncio.ensure_future(http.post("/embed", json={"inputs": f"{number}"}))
                    for number in range(accepted)
                ]
                while (await http.get("/stats")).json()["accepted"] < accepted:
                    pass
                server.process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*asked)

        answered = asyncio.run(load())
        got = np.float32([answer.json()[0] for answer in answered])
        np.testing.assert_array_equal(got, answers([f"{number}" for number in range(accepted)]))
        assert server.close() == 0
        assert all(ends(pid) for pid in (*pids, worker))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))


def test_a_signal_while_the_model_loads_ends_promptly_and_without_a_complaint() -> None:
    with loading("--frontends", "2") as process:
        worker = worker_of(process)
        process.terminate()
        banner, said = process.communicate(timeout=DEADLINE)
        assert (process.returncode, banner) == (0, ""), said
        assert "batcher: " not in said.replace("batcher.", "")
        assert "ended with" not in said
        assert ends(worker)


def ended(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--engine", "process", *flags),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--runner", "tests.service.runners:Nothing"], 3, "has no 'Nothing'"),
        # It takes its process along each time, and in a thread that is the engine's.
        (
            ["--runner", "tests.service.runners:Exits", "--isolation", "thread"],
            70,
            "engine cannot be started: it died (exit code 9) each time",
        ),
    ],
)
def test_what_cannot_start_says_why_in_one_line(flags: list[str], code: int, says: str) -> None:
    done = ended(*flags)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("batcher: ")]
    assert says in line
    assert done.stderr.splitlines()[-1] == line
    assert "Traceback" not in done.stderr
    assert "ended with" not in done.stderr
