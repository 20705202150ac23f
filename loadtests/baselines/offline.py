"""The runner of the service with no service around it: no queue, no HTTP, texts sorted by length.

Settings come as for the service, from BATCHER_ variables. Says `ready` once it is warm; then every
line it reads, `SIZE SECONDS`, is answered by one with the texts a second in batches of that size.
"""

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

READY = "ready"


class Runs(Protocol):
    """It may also have `launch`, as a runner of the engine may."""

    def run(self, payloads: Sequence[Any], /) -> Sequence[Any]: ...


def batches(inputs: Sequence[Any], size: int) -> list[list[Any]]:
    """All of them, the longest first: the shape that needs most memory is met at once."""
    ordered = sorted(inputs, key=len, reverse=True)
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def run_all(runner: Runs, cut: Sequence[Sequence[Any]]) -> None:
    """One batch after another; where the runner can, the next is queued while one runs."""
    launch = getattr(runner, "launch", None)
    if launch is None:
        for batch in cut:
            runner.run(batch)
        return
    running: deque[Callable[[], Sequence[Any]]] = deque()
    for batch in cut:
        running.append(launch(batch))
        if len(running) == 2:
            running.popleft()()
    while running:
        running.popleft()()


def rate(runner: Runs, inputs: Sequence[Any], size: int, seconds: float) -> float:
    """Inputs a second, over whole passes of all of them; at least one pass."""
    cut, passes, started = batches(inputs, size), 0, time.perf_counter()
    while not passes or time.perf_counter() - started < seconds:
        run_all(runner, cut)
        passes += 1
    return passes * len(inputs) / (time.perf_counter() - started)


def main() -> None:
    from service.arguments import load
    from service.placement.layout import plan_layout
    from service.processes.build import find_spec, runner_factories
    from service.tasks.text import TextTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    texts = json.loads(parser.parse_args().texts.read_text())
    said, sys.stdout = sys.stdout, sys.stderr  # What the runner prints is no answer of ours.
    settings = load({})
    runner = runner_factories(settings, plan_layout(settings))[0]()
    runner.warm_up()
    tokenizer = TextTokenizer.load(find_spec(settings))
    inputs = [tokenizer.encode(text, truncate=True) for text in texts]
    print(READY, file=said, flush=True)
    for line in sys.stdin:
        size, seconds = line.split()
        print(rate(runner, inputs, int(size), float(seconds)), file=said, flush=True)
    runner.close()


if __name__ == "__main__":
    main()
