"""A service that is expected to end by itself: started with bad luck, watched, always ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from loadtests.servers import procfs as processes
from loadtests.servers.launch import ROOT


class ExitingService(subprocess.Popen[bytes]):
    """A process with its output in a file, so that nobody has to read along."""

    log: Path

    def said(self) -> str:
        """The last line of its output."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@contextlib.contextmanager
def exiting_service(settings: Mapping[str, str], *arguments: str) -> Iterator[ExitingService]:
    """`python -m service` with these settings and flags; killed at the end of the block."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BATCHER_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "BATCHER_PORT": "0"} | dict(settings)
    with tempfile.TemporaryDirectory(prefix="loadtests-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = ExitingService(
                [sys.executable, "-m", "service", *arguments],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.log = log
        try:
            yield process
        finally:
            for pid in reversed(processes.tree(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
