"""One measured figure beside its ideal and its bound."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Finding:
    """`need` is the bound in words; `ok` is None for a figure that is reported, not judged."""

    what: str
    measured: float = math.nan  # NaN: what was found is in words, in `what`.
    unit: str = ""
    ideal: float | None = None
    need: str = ""
    ok: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.measured / self.ideal if self.ideal else None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a check found, and what a reader should know beside the table."""

    findings: Sequence[Finding]
    notes: str = ""


def observed(ok: bool | None, what: str) -> Finding:
    """A verdict on what was seen, in words with the numbers in them."""
    return Finding(what, ok=bool(ok))


def none(what: str, count: int) -> Finding:
    return Finding(what, count, need="0", ok=count == 0)


def at_most(what: str, measured: float, bound: float, unit: str = "") -> Finding:
    return Finding(what, measured, unit, need=f"<= {bound:g}", ok=measured <= bound)


def exactly(what: str, measured: float, wanted: float) -> Finding:
    return Finding(what, measured, need=f"{wanted:g}", ok=measured == wanted)


def table(findings: Sequence[Finding], what: str = "what") -> str:
    """Markdown; `what` heads the first column."""
    lines = [
        f"| {what} | ideal | measured | ratio | needed | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for finding in findings:
        ideal = "" if finding.ideal is None else f"{finding.ideal:.5g} {finding.unit}"
        ratio = "" if finding.ratio is None else f"{finding.ratio:.3f}"
        verdict = {None: "", True: "holds", False: "**missed**"}[finding.ok]
        lines.append(
            f"| {finding.what} | {ideal} | {finding.measured:.5g} {finding.unit} "
            f"| {ratio} | {finding.need} | {verdict} |"
        )
    return "\n".join(lines)


def holds(findings: Sequence[Finding]) -> bool:
    return all(finding.ok is not False for finding in findings)


def over(these: Sequence[float], those: Sequence[float]) -> float:
    """The median of the rounds' ratios: a machine that is slow for a while is so above and below
    the line."""
    return median(this / that for this, that in zip(these, those, strict=True))


def spread(values: Sequence[float]) -> str:
    """`median (lowest to highest)` of repeats."""
    return f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})"
