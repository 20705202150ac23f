"""A runner in its place: bound to its cores before it loads anything, and measured once it is warm.

Lives in the worker. Everything else is the runner's own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from batcher.errors import RunnerFailed
from batcher.runner import Informing, Launcher, Runner, RunnerInfo
from service.errors import CannotServe
from service.models.config import RunnerConfig
from service.models.create import create_runner
from service.placement import memory
from service.placement.cores import ranges
from service.placement.replica_count import Placement


def create_pinned(runner: str, config: RunnerConfig) -> Runner:
    """See create_runner(). Raises RunnerFailed for what a setting has to change."""
    bind_to(config.cores)
    with said_in_one_line():
        return PinnedRunner(create_runner(runner, config), config.placement)


def bind_to(cores: Sequence[int]) -> None:
    """This thread, and those that it starts, as torch's are; none: it may use any."""
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:  # the machine has changed; any core is better than none
        print(f"cannot bind this worker to cores {ranges(cores)}: {error}", flush=True)


@contextlib.contextmanager
def said_in_one_line() -> Iterator[None]:
    """The text of CannotServe says all: RunnerFailed is reported without a traceback."""
    try:
        yield
    except CannotServe as error:
        raise RunnerFailed(str(error)) from error


class PinnedRunner:
    def __init__(self, runner: Runner, placement: Placement) -> None:
        self._runner = runner
        self._placement = placement
        # The runner's own, from its warm-up on: a batch takes no step more for its placement.
        self.run: Callable[[Sequence[Any]], Sequence[Any]]
        self.launch: Callable[[Sequence[Any]], Callable[[], Sequence[Any]]] | None = None
        self.changed_facts: Callable[[], Mapping[str, object] | None] | None = None

    def warm_up(self) -> RunnerInfo:
        with said_in_one_line():
            info = RunnerInfo.from_facts(self._runner.warm_up())
        # Not before: only its backend says whether it can, see EncoderRunner.
        runner = self._runner
        self.run = runner.run
        self.launch = runner.launch if isinstance(runner, Launcher) else None
        self.changed_facts = runner.changed_facts if isinstance(runner, Informing) else None
        place = self._placement
        info = replace(
            info,
            placed_on=place.device if place.device != "auto" else info.placed_on,
            cores=ranges(place.cores) or info.cores,
            gpu_uuid=place.gpu_uuid or info.gpu_uuid,
        )
        measured, host = memory.measure_host(), 0
        if place.device.startswith("cuda"):
            host = measured[1] if measured is not None else 0
            measured = memory.measure_cuda(place.device) if "torch" in sys.modules else None
        if measured is not None:
            least, most = measured
            info = replace(info, memory_bytes=most)
            # With a profile from the cache, no large batch has run yet.
            has_run_all = info.profile_source == "measured"
            if (
                place.memory_note
                and has_run_all
                and (why := memory.note(place.memory_note, least, most, host))
            ):
                print(why, flush=True)
        return info

    def close(self) -> None:
        self._note_more()
        self._runner.close()

    def _note_more(self) -> None:
        """Where real batches took more than those of the profile, as after a start on a busy
        machine. Not on a GPU: there a batch that did not fit has taken all there was."""
        path, on_gpu = self._placement.memory_note, self._placement.device.startswith("cuda")
        known = memory.noted(path) if path and not on_gpu else None
        measured = memory.measure_host() if known is not None else None
        if known is not None and measured is not None and measured[1] > known.most:
            memory.note(path, known.least, measured[1])
