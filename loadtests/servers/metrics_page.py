"""A scrape of /metrics as numbers, and whether they add up."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """Samples by name and labels."""

    samples: Mapping[tuple[str, Labels], float]

    def get(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 where there are none."""
        wanted = set(labels.items())
        return sum(
            value
            for (sample, has), value in self.samples.items()
            if sample == name and wanted <= set(has)
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by the values of one label."""
        found: dict[str, float] = {}
        for (sample, has), value in self.samples.items():
            if sample == name and (key := dict(has).get(label)) is not None:
                found[key] = found.get(key, 0.0) + value
        return found


def parse(page: str) -> Counters:
    """Prometheus' text format. Lines that are no samples are left out."""
    samples = {}
    for line in page.splitlines():
        if match := _SAMPLE.match(line):
            name, labels, value = match.groups()
            samples[name, tuple(sorted(_LABEL.findall(labels or "")))] = float(value)
    return Counters(samples)


def mean_batch(before: Counters, after: Counters) -> float:
    """Inputs in a batch, of those that ran between two scrapes."""
    inputs, batches = (
        after.get(f"batcher_batch_size_{what}") - before.get(f"batcher_batch_size_{what}")
        for what in ("sum", "count")
    )
    return inputs / batches
