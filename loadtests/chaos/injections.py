"""Which faults really happened. Every injector says so, where the service cannot: in a file.

A fault that was never injected leaves a service unharmed, which most scenarios would take for
success. So each scenario names what must have been injected, and the judge demands it.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FOLDER = "LOADTESTS_INJECTIONS"  # Set for the service, and inherited by its workers.
_BLOCKED = "no-start.marker"
_MARKER = ".marker"
_STANDING = ".standing"


def acknowledge(name: str, standing: bool = False) -> None:
    """From a process of the service: this fault is happening now; `standing`: from now on."""
    folder = os.environ.get(FOLDER)
    if folder:  # Not set when somebody starts a drill by hand.
        with Path(folder, name + _STANDING * standing).open("ab") as file:
            file.write(b".")  # One byte a time: appending is atomic.


def starts_are_blocked() -> bool:
    """From a worker: was `Injections.block_starts` called?"""
    return Path(os.environ.get(FOLDER, os.devnull), _BLOCKED).exists()


class Injections:
    """Counts what was injected since `begin`, and the standing faults."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # Of the folder, when the scenario began.
        self._folder: Path | None = None

    @contextlib.contextmanager
    def shared(self) -> Iterator[dict[str, str]]:
        """Settings for a service: the folder for its acknowledgements, while the block runs."""
        with tempfile.TemporaryDirectory(prefix="loadtests-injections-") as folder:
            self._folder = Path(folder)
            try:
                yield {FOLDER: folder}
            finally:
                self._counts.update(self._there())
                self._folder, self._before = None, Counter()

    def begin(self) -> None:
        """A new scenario."""
        self._counts.clear()
        self._before = _counted(self._folder, standing=False)

    def acknowledge(self, name: str, times: int = 1) -> None:
        """Of what the scenario does from outside, or can tell by its effect."""
        self._counts[name] += times

    def counts(self) -> Counter[str]:
        return self._counts + self._there()

    @contextlib.contextmanager
    def starts_blocked(self) -> Iterator[None]:
        """While the block runs, no drilled worker of the service can start."""
        assert self._folder is not None, "no service is running: this is a bug"
        marker = self._folder / _BLOCKED
        marker.touch()
        try:
            yield
        finally:
            marker.unlink(missing_ok=True)  # The service and its folder may be gone.

    def _there(self) -> Counter[str]:
        return _counted(self._folder) - self._before


def _counted(folder: Path | None, standing: bool = True) -> Counter[str]:
    """By name. `standing`: with the faults that began when the service did, and last."""
    if folder is None:
        return Counter()
    left_out = {_MARKER} if standing else {_MARKER, _STANDING}
    files = (path for path in folder.iterdir() if path.suffix not in left_out)
    return Counter({path.name.removesuffix(_STANDING): path.stat().st_size for path in files})
