"""The plot: p50, p95 and p99 against rate, the target, and the point that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.plan.search import Plan
from service.plan.trial import Trial


class NoMatplotlib(Exception):
    """One line that says what to install."""


def check() -> None:
    """Raises NoMatplotlib: before the work, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NoMatplotlib("--plot needs matplotlib: pip install matplotlib") from None


def draw(path: Path, plan: Plan, trials: Sequence[Trial]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    rates = [trial.rate * plan.fleet.machines for trial in trials]
    for name, colour in (("p50", "#5b4b8a"), ("p95", "#0b6e4f"), ("p99", "#b3541e")):
        values = [getattr(trial, name) * 1e3 for trial in trials]
        axes.plot(rates, values, marker="o", markersize=4, color=colour, label=name)
    goal, final = plan.goal, plan.final
    axes.axhline(goal.p95 * 1e3, color="grey", linestyle="--", label="target for p95")
    axes.axvline(plan.breaks, color="black", linestyle=":", label="the queue grows")
    axes.plot([goal.rate], [final.p95 * 1e3], "*", color="#0b6e4f", markersize=16, label="planned")
    axes.set(
        yscale="log",
        xlabel="requests a second",
        ylabel="latency, ms",
        title=f"{plan.fleet.total:,} replicas,"
        f" up to {plan.fleet.limits.max_batch_size} requests a batch",
    )
    axes.grid(which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=120)
