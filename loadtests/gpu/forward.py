"""One path of the forward pass, in a process of its own: right, and how fast? Writes JSON.

Settings come as for the service, from BATCHER_ variables. Alone it measures a grid of sizes and
lengths, with the next batch queued behind it (where the runner can) whole passes of one length.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.baselines.offline import rate
from loadtests.drivers import workloads
from loadtests.gpu.floor import floor, read_shape

SENTENCES = 256
ENOUGH, MOST_RUNS = 0.2, 30  # Seconds and runs of one shape of the grid.
LEAST_ID, MOST_ID = 1000, 20_000  # Whole words, in the vocabularies of the BERT family.
PEAK_SECONDS = 0.5  # Of trying for each peak.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


def inputs(count: int, length: int) -> list[Any]:
    chance = np.random.default_rng(length)
    return list(chance.integers(LEAST_ID, MOST_ID, (count, length), dtype=np.int32))


def grid(runner: Any, sizes: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, int, float]]:
    """(size, length, least seconds), copies there and back included."""
    found = []
    for length in lengths:
        for size in sizes:
            batch, times = inputs(size, length), list[float]()
            runner.run(batch)  # What the first of a shape does, no later one does.
            while not times or (sum(times) < ENOUGH and len(times) < MOST_RUNS):
                started = time.perf_counter()
                runner.run(batch)
                times.append(time.perf_counter() - started)
            found.append((size, length, min(times)))
    return found


def peaks(device: str, dtype: str, side: int) -> tuple[float, float]:
    """Operations and bytes a second of this device: a large product, and a large copy."""
    import torch

    kind = getattr(torch, dtype if dtype in ("float32", "bfloat16", "float16") else "float32")
    left = torch.randn(side, side, device=device).to(kind)
    into = torch.empty_like(left)
    many = torch.empty(16 * side * side, device=device)  # Larger than the caches.
    copied = torch.empty_like(many)

    def least(run: Any) -> float:
        found, begun = list[float](), time.perf_counter()
        while time.perf_counter() - begun < PEAK_SECONDS:
            started = time.perf_counter()
            run()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            found.append(time.perf_counter() - started)
        return min(found)

    with torch.inference_mode():
        product = least(lambda: torch.mm(left, left, out=into))
        copy = least(lambda: copied.copy_(many))
    return 2.0 * side**3 / product, 2.0 * many.numel() * 4 / copy


def main() -> None:
    from service.arguments import load
    from service.placement.layout import plan_layout
    from service.processes.build import find_spec, runner_factories
    from service.tasks.text import TextTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True, help="of the sentences, to write")
    parser.add_argument("--reference", type=Path, help="vectors to compare with")
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--lengths", type=int, nargs="*", default=[])
    parser.add_argument("--offline-sizes", type=int, nargs="*", default=[])
    parser.add_argument("--offline-lengths", type=int, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=4096, help="inputs of a pass")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each offline rate")
    parser.add_argument("--side", type=int, default=8192, help="of the product")
    args = parser.parse_args()
    settings = load({})
    started = time.perf_counter()
    runner: Any = runner_factories(settings, plan_layout(settings))[0]()
    facts = dict(runner.warm_up())
    warm = time.perf_counter() - started
    spec = find_spec(settings)
    tokenizer = TextTokenizer.load(spec)
    texts = workloads.texts("all", workloads.built_in_sentences(), 1, SENTENCES)
    answers = runner.run([tokenizer.encode(t, truncate=True) for t in texts])
    vectors = np.asarray(answers, np.float32)[:, :-1]  # behind each is the length that it had
    np.save(args.vectors, vectors)
    found: dict[str, Any] = {
        "warm_seconds": warm,
        "facts": {name: value for name, value in facts.items() if name != "profile"},
        "finite": bool(np.isfinite(vectors).all()),
    }
    if args.reference is not None:
        found["cosine"] = _least_cosine(vectors, np.load(args.reference))
    points = grid(runner, args.sizes, args.lengths)
    dtype = str(facts.get("dtype", "float32"))
    device = "cuda" if "cuda" in str(facts.get("device", "")) else "cpu"
    operations, bandwidth = peaks(device, dtype, args.side)
    shape = read_shape(spec.folder)
    found |= {"operations_per_s": operations, "bytes_per_s": bandwidth}
    found["grid"] = [
        [size, length, took, floor(shape, size, length, operations, bandwidth, BYTES[dtype])]
        for size, length, took in points
    ]
    found["offline"] = {
        str(length): {
            str(size): rate(runner, inputs(args.count, length), size, args.seconds)
            for size in args.offline_sizes
        }
        for length in args.offline_lengths
    }
    runner.close()
    args.out.write_text(json.dumps(found, default=str))


def _least_cosine(one: Any, other: Any) -> float:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(1) / norms).min())


if __name__ == "__main__":
    main()
