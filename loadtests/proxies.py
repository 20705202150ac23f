"""nginx and HAProxy as our own children: the examples of deploy/, on ports of this run."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests import processes
from loadtests.servers import ROOT
from loadtests.target import Target

START_SECONDS = 10.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """`asks`: it finds out by itself whether an instance is ready."""

    example: str
    options: tuple[str, ...]  # So that it stays in the foreground, as our child.
    asks: bool


PROXIES = {
    "nginx": Kind("nginx.conf", ("-p", "{folder}", "-e", "stderr", "-c", "{config}"), asks=False),
    "haproxy": Kind("haproxy.cfg", ("-db", "-f", "{config}"), asks=True),
}


class Proxy:
    """A running one, in front of two instances."""

    def __init__(self, kind: Kind, target: Target, ports: Sequence[int], config: Path) -> None:
        self._kind, self._ports, self._config = kind, ports, config
        self.target = target
        self._text = config.read_text()
        self.process: subprocess.Popen[bytes] | None = None

    def take_out(self, which: int) -> None:
        """As an operator does before a restart, where the proxy does not ask for itself."""
        server = f"server 127.0.0.1:{self._ports[which]}"
        self._load(self._text.replace(server, f"{server} down"))

    def put_back(self) -> None:
        self._load(self._text)

    def _load(self, text: str) -> None:
        assert self.process is not None, "no process yet: this is a bug"
        if self._kind.asks:
            return
        before = set(processes.tree(self.process.pid))
        self._config.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + START_SECONDS
        # Its old workers end when their last request has: only then is the new list in force.
        while before & set(processes.tree(self.process.pid)) != {self.process.pid}:
            if time.monotonic() > give_up:
                raise RuntimeError("the proxy did not take its new configuration")
            time.sleep(0.02)


def find(name: str) -> str:
    """The program. Raises RuntimeError that says what to install."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed here (apt-get install {name})")
    return found


@contextlib.contextmanager
def proxied(name: str, port: int, backends: Sequence[int]) -> Iterator[Proxy]:
    """Listening on `port` in front of two `backends`; stopped however the block ends."""
    kind, program = PROXIES[name], find(name)
    ports = dict(zip(("8000", "8001", "8002"), map(str, (port, *backends)), strict=True))
    text = (ROOT / "deploy" / kind.example).read_text()
    text = re.sub(r"(?<=127\.0\.0\.1:)(800[012])\b", lambda found: ports[found[1]], text)
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        config = Path(folder, kind.example)
        config.write_text(text)
        log = Path(folder, "log")
        options = [option.format(folder=folder, config=config) for option in kind.options]
        proxy = Proxy(kind, Target("127.0.0.1", port), backends, config)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *options], cwd=folder, stdout=output, stderr=output
            )
        proxy.process = process
        try:
            _wait(process, port, log)
            yield proxy
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Another process: it can only be asked, for a bounded time. Raises RuntimeError."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the proxy does not listen: {log.read_text(errors='replace')[-800:]}")
