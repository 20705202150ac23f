"""A bare forward in a process of its own: no service, no queue, no HTTP. Prints its p50 in ms."""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Protocol

from loadtests.baselines import model as baseline


class Embeds(Protocol):
    def embed(self, texts: list[str]) -> object: ...


def p50_ms(model: Embeds, text: str, forwards: int) -> float:
    """Tokenising included, one text at a time."""
    times = []
    for _ in range(forwards):
        started = time.perf_counter()
        model.embed([text])
        times.append(time.perf_counter() - started)
    return median(times) * 1e3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder; default: the installed package's")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a forward pass")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--forwards", type=int, default=500)
    parser.add_argument("--text", required=True)
    arguments = parser.parse_args()
    print(p50_ms(baseline.load(arguments), arguments.text, arguments.forwards))
