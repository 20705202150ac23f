"""What becomes of a batch whose run raises: it is run again in halves, until culprits stand alone.

One culprit among b costs at most 2·log2(b) extra runs; b culprits cost 2·b. Requests whose callers
have gone meanwhile, by their deadline or of their own will, are not run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from batcher.errors import RunnerFailed
from batcher.request import Payload, Request, State
from batcher.runner import Reply

_log = logging.getLogger(__name__)


def run_batch(run: Callable[[Sequence[Payload]], Reply], requests: Sequence[Request]) -> Reply:
    """One result per request; a RunnerFailed in the place of each that raises on its own.

    `seconds` is 0 if it took several runs: that is no batch's time. Raises what `run` raises
    other than RunnerFailed.
    """
    try:
        return run([request.payload for request in requests])
    except RunnerFailed as error:
        if len(requests) == 1:
            return Reply([error], 0.0)
        _log.warning("a batch of %d raised, it runs again in halves: %s", len(requests), error)
        return Reply(_in_halves(run, requests), 0.0)


def _in_halves(run: Callable[[Sequence[Payload]], Reply], requests: Sequence[Request]) -> list[Any]:
    middle = len(requests) // 2
    results: list[Any] = []
    for half in (requests[:middle], requests[middle:]):
        # Read without the lock: one that is DONE stays so, and any other may as well be run.
        if all(request.state is State.DONE for request in half):
            results += [RunnerFailed("nobody waits for this")] * len(half)
        else:
            results += run_batch(run, half).results
    return results
