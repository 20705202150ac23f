"""Starts what is measured, waits until it is ready, and always stops it, in bounded time."""

import argparse
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.drivers.pinning import pinned
from loadtests.drivers.target import Target, count_between
from loadtests.servers import asking
from loadtests.servers import procfs as processes

START_SECONDS = 180.0  # Loading torch and a model from a cold disk.
STOP_SECONDS = 40.0  # Above the service's own drain timeout.
LOG_TAIL = 30

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Variant:
    """One server to measure: a module to run, with `{port}` among its arguments, and settings."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        settings = " ".join(f"{name}={value}" for name, value in sorted(self.settings.items()))
        return f"{settings} python -m {self.module} {' '.join(self.arguments)}".strip()


def service(name: str, **settings: object) -> Variant:
    """Our service; settings by their names without the prefix, `max_batch_size=1`."""
    named = {f"BATCHER_{key.upper()}": str(value) for key, value in settings.items()}
    return Variant(name, "service", (), named)


class Server:
    """A running variant."""

    def __init__(self, process: subprocess.Popen[bytes], target: Target, log: Path) -> None:
        self.process, self.target, self.log = process, target, log

    @property
    def pids(self) -> list[int]:
        """The server's process and its descendants, parents first."""
        return processes.tree(self.process.pid)

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """One GET on a connection of its own. Raises OSError when nobody answers."""
        return asking.get(self.target, path, timeout)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:])

    def wait_until_ready(self) -> None:
        """Asks /health/ready, with pauses that grow from 20 to 200 ms.

        A server of any make is waited for the same way, so there is no event to wait on. Raises
        RuntimeError with the end of its log when it exits or takes too long.
        """
        give_up, pause = time.monotonic() + START_SECONDS, 0.02
        while time.monotonic() < give_up and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/health/ready")[0] == 200:
                    return
            time.sleep(pause)
            pause = min(0.2, pause * 1.5)
        raise RuntimeError(
            f"{self.process.args!r} was never ready; its log ends:\n{self.log_tail()}"
        )

    def stop(self, patience: float = STOP_SECONDS) -> int:
        """SIGTERM, then SIGKILL to whatever of the tree is left. Returns the exit status."""
        tree = self.pids
        if self.process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        for pid in tree:
            # Still the same process? Pids are reused only after a full turn of their numbers.
            if processes.tree(pid) and (pid != self.process.pid or self.process.poll() is None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return self.process.wait(STOP_SECONDS)


def python_path() -> str:
    """Of a child: the project, then what this process was given besides."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


@contextlib.contextmanager
def running(
    variant: Variant,
    cpus: frozenset[int] | None = None,
    port: int = 0,
    checkout: Path = ROOT,  # Whose code runs.
) -> Iterator[Server]:
    """The variant, ready, on those cores (default: all); stopped however the block ends."""
    port = port or free_port()
    arguments = [part.format(port=port) for part in variant.arguments]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    environment = inherited | {"PYTHONPATH": python_path()} | dict(variant.settings)
    if variant.module == "service":
        environment["BATCHER_PORT"] = str(port)
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        log = Path(folder, "server.log")
        with log.open("wb") as output, pinned(cpus):
            process = subprocess.Popen(
                [sys.executable, "-m", variant.module, *arguments],
                env=environment,
                cwd=checkout,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the measurement, which then stops the server.
            )
        server = Server(process, _target(variant, port), log)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


def _target(variant: Variant, port: int) -> Target:
    settings = variant.settings
    is_tls, unix = "BATCHER_TLS_CERT" in settings, settings.get("BATCHER_UNIX_SOCKET", "")
    return Target("127.0.0.1", port, is_tls, unix)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def add_topology(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frontends", type=count_between(1, 64), help="HTTP processes; default: the service's own"
    )


def topology(args: argparse.Namespace) -> dict[str, object]:
    """Settings by their names without the prefix; only those that were asked for."""
    return {} if args.frontends is None else {"frontends": args.frontends}
