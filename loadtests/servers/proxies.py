"""nginx and HAProxy as our own children: the examples of deploy/, on ports of this run."""

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.drivers.target import Target
from loadtests.servers.launch import ROOT

START_SECONDS = 10.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    example: str
    options: tuple[str, ...]  # So that it stays in the foreground, as our child.


PROXIES = {
    "nginx": Kind("nginx.conf", ("-p", "{folder}", "-e", "stderr", "-c", "{config}")),
    "haproxy": Kind("haproxy.cfg", ("-db", "-f", "{config}")),
}


def find(name: str) -> str:
    """The program. Raises RuntimeError that says what to install."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed here (apt-get install {name})")
    return found


@contextlib.contextmanager
def proxied(name: str, port: int, backends: Sequence[int]) -> Iterator[Target]:
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
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *options], cwd=folder, stdout=output, stderr=output
            )
        try:
            _wait(process, port, log)
            yield Target("127.0.0.1", port)
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
