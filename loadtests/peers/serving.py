"""Starts a peer, waits until it answers, checks what it answers, and stops all it has started."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from loadtests.drivers import closedloop
from loadtests.drivers.outcomes import OK
from loadtests.drivers.pinning import pinned
from loadtests.drivers.target import Target
from loadtests.peers.catalogue import Peer
from loadtests.peers.model import Matrix, load
from loadtests.peers.options import Options
from loadtests.servers import procfs as processes
from loadtests.servers.launch import ROOT, Server, free_port

START_SECONDS = 120.0
STOP_SECONDS = 4.0  # Nothing is asked of it any more, but some wait for callers that have gone.
END_SECONDS = 5.0
CALLERS = 32  # While answers are checked: enough that they come out of batches.
PAUSES = (0.5, 2.0)  # Some are still putting themselves together after their first answer.
TOLERANCE = 1e-4  # Between two forwards of one text, in different batches and torch versions.
MARK = "PEER_MARK"
QUIET = {  # No calls home, which could not succeed, and no threads that spin on shared cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class WrongAnswers(RuntimeError):
    """A server answers, but not with the vectors of its model."""


class Reference:
    """The texts that are asked for in a check, and their vectors by the shared forward code."""

    def __init__(self, options: Options, texts: Sequence[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self.vectors: Matrix = np.concatenate(
            [load(options).embed(self.texts[at : at + 16]) for at in range(0, len(self.texts), 16)]
        )

    def check(self, peer: Peer, target: Target) -> None:
        """Raises WrongAnswers, with the first reason, unless every text gets its own vector."""
        requests = [target.post(peer.path, peer.body(text)) for text in self.texts]
        for pause in (*PAUSES, None):
            run = closedloop.drive(
                target, requests, CALLERS, 60.0, most=len(requests), keep_bodies=True
            )
            bad = next((outcome for outcome in run.outcomes if outcome.status != OK), None)
            if bad is None:
                break
            if pause is None:
                raise WrongAnswers(f"{bad.status}: {bad.body[:300]!r}")
            time.sleep(pause)
        for outcome, text, right in zip(run.outcomes, self.texts, self.vectors, strict=True):
            if reason := differs(peer, outcome.body, right):
                raise WrongAnswers(f"{text!r}: {reason}")


def differs(peer: Peer, body: bytes, right: Matrix) -> str:
    """Why this is not the answer; empty when it is."""
    try:
        vector = np.asarray(peer.vector(body), dtype=np.float32)
    except (ValueError, LookupError, TypeError) as error:
        return f"cannot be read ({error!r}): {body[:300]!r}"
    if vector.shape != right.shape:
        return f"{vector.shape} numbers where {right.shape} are right"
    worst = float(np.abs(vector - right).max())
    return f"off by {worst:.2g}" if not worst <= TOLERANCE else ""


@contextlib.contextmanager
def serving(
    peer: Peer,
    options: Options,
    environments: Path,
    probe: str,
    cpus: frozenset[int] | None = None,
) -> Iterator[Server]:
    """The peer, once it has answered `probe` with 200; stopped however the block ends.

    `options.port` is replaced by a free one. Raises RuntimeError with the end of its log when it
    exits or does not answer in time.
    """
    options = dataclasses.replace(options, port=free_port())
    mark = uuid.uuid4().hex
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BATCHER_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment = kept | QUIET | {"OMP_NUM_THREADS": str(options.threads), MARK: mark}
    environment |= {"PYTHONPATH": str(ROOT)} | peer.environment(options)
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "server.log")
        environment["PEER_FOLDER"] = folder  # For files that a peer insists on.
        with log.open("wb") as output, pinned(cpus):
            process = subprocess.Popen(
                peer.command(environments),
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, Target("127.0.0.1", options.port), log)
        try:
            _wait_until_it_answers(peer, server, probe)
            yield server
        finally:
            server.stop(STOP_SECONDS)
            _end(mark)


def _wait_until_it_answers(peer: Peer, server: Server, probe: str) -> None:
    # Most peers have no route that says when the model is loaded, so a real request is the test.
    give_up, pause = time.monotonic() + START_SECONDS, 0.05
    request = server.target.post(peer.path, peer.body(probe))
    status = "nothing"
    while time.monotonic() < give_up and server.process.poll() is None:
        run = closedloop.drive(server.target, [request], 1, 20.0, most=1)
        status = run.outcomes[0].status
        if status == OK:
            return
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)
    raise RuntimeError(f"never answered (last: {status}); its log ends:\n{server.log_tail()}")


def _end(mark: str) -> None:
    """What has left the tree, such as daemons: they write to the folder while they live."""
    give_up = time.monotonic() + END_SECONDS
    while (left := marked(mark)) and time.monotonic() < give_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def marked(mark: str) -> list[int]:
    """Processes whose environment has this mark: all that descends from one start."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in processes.PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # It has ended, or is not ours.
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
