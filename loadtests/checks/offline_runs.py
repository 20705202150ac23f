"""The forward pass alone, in a process of its own that is asked for its throughput."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from loadtests.baselines.offline import READY
from loadtests.servers.launch import ROOT, STOP_SECONDS, pinned, python_path


class Offline:
    """A running `loadtests.baselines.offline`. Idle, it waits for a line and uses no CPU."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self._log = process, log

    def rate(self, size: int, seconds: float) -> float:
        """Texts a second in batches of that size, all texts sorted by length."""
        self._ask(f"{size} {seconds}")
        return float(self.answer())

    def answer(self) -> str:
        """Raises RuntimeError with the end of its log when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"the offline forward pass has ended; its log ends:\n{tail}")
        return line.strip()

    def _ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def offline(
    texts: Sequence[str], settings: Mapping[str, str], cpus: frozenset[int] | None
) -> Iterator[Offline]:
    """Warm, on those cores, with the service's own variables; ended however the block ends."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    with tempfile.TemporaryDirectory(prefix="offline-") as folder:
        listed, log = Path(folder, "texts.json"), Path(folder, "log")
        listed.write_text(json.dumps(list(texts)))
        with log.open("wb") as errors, pinned(cpus):
            process = subprocess.Popen(
                [sys.executable, "-m", "loadtests.baselines.offline", f"--texts={listed}"],
                cwd=ROOT,
                env=inherited | {"PYTHONPATH": python_path()} | dict(settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            made = Offline(process, log)
            said = made.answer()
            assert said == READY, f"{said!r} before it was ready: this is a bug"
            yield made
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """It ends by itself when there is nothing more to read; else it is killed."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):  # It has ended with a line of ours unread.
            stream.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
