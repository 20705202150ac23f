"""Tables and plots of a comparison. Medians over repeats; refusals and losses are not hidden."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from loadtests.peers.bench import Point

COLOURS = {"ours": "#0b6e4f", "unbatched": "#b3541e", "busyloop": "#5b4b8a"}
OURS = "ours"


def points_of(points: Sequence[Point], variant: str, rate: float) -> list[Point]:
    return [point for point in points if point.variant == variant and point.rate == rate]


def figure(points: Sequence[Point], variant: str | None, rate: float, name: str) -> float | None:
    """The median of a figure of the referee; for no variant, the least among the baselines."""
    if variant is None:
        others = sorted({point.variant for point in points} - {OURS})
        found = [figure(points, other, rate, name) for other in others]
        return min((value for value in found if value is not None), default=None)
    values = [float(getattr(point.referee, name)) for point in points_of(points, variant, rate)]
    return median(values) if values else None


def comparison(
    points: Sequence[Point], knee: float | None, claims: str, left_out: Sequence[str]
) -> str:
    """The body of summary.md."""
    parts = [claims]
    if knee is not None:
        parts.append(f"The unbatched server's p95 reaches 400 ms at about {knee:g} requests/s.")
    parts.append(
        "Medians over the repeats, ms; `broken`: p95 over 2 s or more than 1 % not answered. "
        "Referee: Poisson arrivals, from the scheduled time. Locust: evenly spaced, from the time "
        "it sent; what it had not yet got back at the end is not in its figures."
    )
    parts.append(_table(points))
    late = [point for point in points if point.referee.late_driver]
    if late:
        names = ", ".join(f"{p.variant} {p.rate:g}/s #{p.repeat}" for p in late)
        parts.append(f"The driver itself was late (p99 over 5 ms) in: {names}.")
    if left_out:
        parts.append(f"Left out for lack of time: {', '.join(left_out)}.")
    parts.append("![latency against rate](latency.png)\n\n![batch sizes](batches.png)")
    return "\n\n".join(parts)


def plot_latencies(path: Path, points: Sequence[Point]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure_, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, name, title in zip(axes, ("p50_ms", "p95_ms"), ("p50", "p95"), strict=True):
        for variant in _names(points):
            rates = sorted({point.rate for point in points if point.variant == variant})
            values = [figure(points, variant, rate, name) for rate in rates]
            colour = COLOURS.get(variant, "grey")
            axis.plot(rates, values, marker="o", markersize=4, color=colour, label=variant)
            broken = [
                (rate, value)
                for rate, value in zip(rates, values, strict=True)
                if any(point.broken for point in points_of(points, variant, rate))
            ]
            axis.plot(*zip(*broken, strict=True) if broken else ([], []), "x", color=colour, ms=9)
        axis.set(xscale="log", yscale="log", xlabel="requests a second", title=title)
        axis.grid(which="both", alpha=0.25)
    axes[0].set_ylabel("latency, ms (x: broken)")
    axes[0].legend()
    _save(figure_, path)


def plot_batches(path: Path, points: Sequence[Point], variant: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rates = sorted({point.rate for point in points if point.variant == variant})[-4:]
    figure_, axes = pyplot.subplots(1, max(1, len(rates)), figsize=(11, 3), squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=False):
        sizes: Counter[int] = Counter()
        for point in points_of(points, variant, rate):
            for size, count in point.batches.items():
                sizes[size] += round(count)
        axis.bar(list(sizes), list(sizes.values()), color=COLOURS.get(variant, "grey"))
        axis.set(title=f"{rate:g}/s", xlabel="requests in a batch")
    axes[0][0].set_ylabel("batches")
    _save(figure_, path)


def _table(points: Sequence[Point]) -> str:
    lines = [
        "| rate/s | variant | p50 | p95 | p99 | answered | mean batch | cores | MB "
        "| Locust p50 | Locust p95 | runs | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rate in sorted({point.rate for point in points}):
        lines.extend(
            _row(rate, variant, found)
            for variant in _names(points)
            if (found := points_of(points, variant, rate))
        )
    return "\n".join(lines)


def _row(rate: float, variant: str, found: Sequence[Point]) -> str:
    referee = [point.referee for point in found]
    reports = [point.locust for point in found if point.locust]
    cells = [f"{median(getattr(each, name) for each in referee):.1f}" for name in _PERCENTILES]
    cells.append(f"{median(each.answered_share for each in referee):.1%}")
    mean = median(each.mean_batch for each in referee)
    cells.append(f"{mean:.1f}" if mean else "")
    cells.append(f"{median(point.cpu_cores for point in found):.2f}")
    cells.append(f"{median(point.resident_mb for point in found):.0f}")
    cells.append(f"{median(each.p50_ms for each in reports):.0f}" if reports else "")
    cells.append(f"{median(each.p95_ms for each in reports):.0f}" if reports else "")
    cells.append(str(len(found)))
    broken = sum(point.broken for point in found)
    cells.append("broken" if broken == len(found) else f"{broken} broken" if broken else "")
    return f"| {rate:g} | {variant} | " + " | ".join(cells) + " |"


_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.variant for point in points))


def _save(drawn: object, path: Path) -> None:
    from matplotlib import pyplot

    pyplot.tight_layout()
    pyplot.savefig(path, dpi=120)
    pyplot.close()
