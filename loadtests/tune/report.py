"""The tuner's answer in words, tables and a plot. Nothing is measured here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median

from loadtests.reports.finding import spread
from loadtests.tune.bench import Seen
from loadtests.tune.planned import Prediction
from loadtests.tune.search import DEFAULT, Candidate, Look, Verdict, curve, holds_somewhere, limit


@dataclass(slots=True)
class Tuned:
    """Everything that was found. `final`: looks by repeat; `verdict` None: nobody to compare."""

    target_ms: float
    looks: dict[Candidate, list[Look]]
    seen: Sequence[Seen]
    in_force: dict[str, object]
    rates: Sequence[float] = ()
    final: dict[Candidate, list[list[Look]]] = field(default_factory=dict)
    finals_from: int = 0  # Place in `seen` where the interleaved measurement begins.
    verdict: Verdict | None = None
    predictions: dict[tuple[Candidate, float], Prediction | str] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    @property
    def winner(self) -> Candidate:
        return self.verdict.winner if self.verdict else DEFAULT

    def pooled(self, candidate: Candidate) -> list[Look]:
        """All looks at it, those of the comparison included."""
        return [*self.looks[candidate], *chain.from_iterable(self.final.get(candidate, []))]


def answer(tuned: Tuned) -> str:
    """The sentence, and the variables to set."""
    verdict, target = tuned.verdict, f"p95 within {tuned.target_ms:g} ms"
    if verdict is None:
        rate = limit(tuned.looks[DEFAULT], tuned.target_ms)
        return f"The defaults: {target} up to {rate:.3g}/s. There was nothing to compare with."
    challenger = next(each for each in verdict.limits if each is not DEFAULT)
    ours, theirs = (_kept(tuned, each, verdict) for each in (challenger, DEFAULT))
    compared = (
        f"{spread(verdict.gains)} times its rate in {len(verdict.gains)} interleaved repeats, "
        f"noise {verdict.noise:.0%}"
    )
    if verdict.winner is DEFAULT:
        return (
            f"The defaults: {target} {theirs}. Nothing beats them by more than the noise: "
            f"the best other ({challenger.name}) {ours}, {compared}.\n\n"
            f"Nothing to set. In force: {_listed(tuned.in_force)}."
        )
    exports = "\n".join(f"export {name}={value}" for name, value in challenger.settings)
    return (
        f"{challenger.name}: {target} {ours}, the defaults {theirs} ({compared})."
        f"\n\n```\n{exports}\n```"
    )


def _kept(tuned: Tuned, candidate: Candidate, verdict: Verdict) -> str:
    if holds_somewhere(tuned.pooled(candidate), tuned.target_ms):
        return f"up to {verdict.limits[candidate]:.3g}/s"
    return "at no rate that was tried"


def body(tuned: Tuned) -> str:
    """The middle of summary.md."""
    parts = [answer(tuned)]
    if tuned.final:
        parts.append(
            "The two that are left, measured in turn with the same arrivals; p95 in ms, median of "
            "the repeats (lowest to highest), beside what `python -m service plan` predicts:"
        )
        parts.append(_final_table(tuned))
    parts.append(
        "All that were looked at; a limit is where the rising curve through the "
        "looks crosses the target:"
    )
    parts.append(_all_table(tuned))
    late = sum(seen.summary.late_driver for seen in tuned.seen)
    if late:
        parts.append(
            f"In {late} of {len(tuned.seen)} runs the driver itself was over 5 ms late (p99): it "
            "shares the machine with the service, and latency counts from the scheduled time."
        )
    if tuned.left_out:
        parts.append(f"Left out for lack of time: {', '.join(tuned.left_out)}.")
    parts.append("![p95 against rate](tune.png)")
    return "\n\n".join(parts)


def _final_table(tuned: Tuned) -> str:
    lines = [
        "| rate/s | settings | p95 measured | p95 planned | planned/measured | mean batch |",
        "|---|---|---|---|---|---|",
    ]
    for rate in tuned.rates:
        for candidate in tuned.final:
            found = [
                seen.summary
                for seen in tuned.seen[tuned.finals_from :]
                if seen.rate == rate and seen.candidate == candidate.name
            ]
            measured = [summary.p95_ms for summary in found]
            planned = tuned.predictions.get((candidate, rate))
            shown = ["", ""]
            if isinstance(planned, Prediction) and math.isinf(planned.p95_ms):
                shown = ["without end", ""]
            elif isinstance(planned, Prediction):
                shown = [f"{planned.p95_ms:.1f}", f"{planned.p95_ms / median(measured):.2f}"]
            batch = median(summary.mean_batch for summary in found)
            lines.append(
                f"| {rate:.4g} | {candidate.name} | {spread(measured)} | {shown[0]} | {shown[1]} "
                f"| {batch:.1f} |"
            )
    planned_limits = [
        f"{candidate.name} {said.limit:.3g}/s"
        for candidate in tuned.final
        if isinstance(said := tuned.predictions.get((candidate, tuned.rates[0])), Prediction)
        and said.limit
    ]
    if planned_limits:
        lines.append(f"\nPlanned limits: {', '.join(planned_limits)}.")
    reasons = {said for said in tuned.predictions.values() if isinstance(said, str)}
    lines += [f"\nNo prediction: {reason}." for reason in sorted(reasons)]
    return "\n".join(lines)


def _all_table(tuned: Tuned) -> str:
    lines = ["| settings | limit/s | looks | note |", "|---|---|---|---|"]
    pooled = {candidate: tuned.pooled(candidate) for candidate in tuned.looks}
    ranked = sorted(pooled.items(), key=lambda each: limit(each[1], tuned.target_ms), reverse=True)
    for candidate, looks in ranked:
        over = not holds_somewhere(looks, tuned.target_ms)
        all_hold = all(value <= 1 for _, value in curve(looks, tuned.target_ms))
        note = "never within the target: a guess" if over else "at least" if all_hold else ""
        lines.append(
            f"| {candidate.name} | {limit(looks, tuned.target_ms):.4g} | {len(looks)} | {note} |"
        )
    return "\n".join(lines)


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def plot(path: Path, tuned: Tuned) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 5.5))
    most = 4 * tuned.target_ms
    for place, candidate in enumerate(tuned.looks):
        colour = "#0b6e4f" if candidate is DEFAULT else f"C{place}"
        marked, pooled = candidate in tuned.final, tuned.pooled(candidate)
        rising = [
            (rate, min(most, ratio * tuned.target_ms))
            for rate, ratio in curve(pooled, tuned.target_ms)
        ]
        axis.plot(*zip(*rising, strict=True), color=colour, lw=2.2 if marked else 0.8)
        rates = [look.rate for look in pooled]
        values = [min(most, look.p95_ms) for look in pooled]
        label = f"{candidate.name} (answer)" if candidate == tuned.winner else candidate.name
        axis.plot(rates, values, "o", ms=4 if marked else 2.5, color=colour, label=label, alpha=0.8)
    axis.axhline(tuned.target_ms, color="black", lw=1, ls="--")
    for (candidate, rate), said in tuned.predictions.items():
        if isinstance(said, Prediction):
            planned = axis.plot(rate, min(most, said.p95_ms), "x", color="black", ms=7)
            planned[0].set_label("" if candidate is not DEFAULT else "planned")
    axis.set(xscale="log", yscale="log", xlabel="requests a second", ylabel="p95, ms")
    axis.set_title(f"p95 against rate; the target is {tuned.target_ms:g} ms")
    axis.grid(which="both", alpha=0.25)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter("{x:g}")
    handles, labels = axis.get_legend_handles_labels()
    named = {label: handle for handle, label in zip(handles, labels, strict=True) if label}
    axis.legend(list(named.values()), list(named), fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
