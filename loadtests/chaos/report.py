"""What was injected and what came of it, as tables."""

from collections import Counter
from collections.abc import Sequence

from loadtests.chaos.controls import Control
from loadtests.chaos.invariants import INVARIANTS
from loadtests.chaos.judge import Verdict


def summary(verdicts: Sequence[Verdict], controls: Sequence[Control], notes: str) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    caught = sum(control.caught for control in controls)
    parts = [f"{len(verdicts)} scenarios: {told}. Negative controls: {caught} of {len(controls)}."]
    parts.append(_table(verdicts))
    parts.append("By speed: the verdict hangs on the machine's speed; `--ci` leaves the row out.")
    if controls:
        parts += ["## The checker, checked", _controls(controls)]
    rules = "\n".join(f"- {name}: {rule}" for name, rule in INVARIANTS.items())
    parts += ["## Checked after every scenario, beside its own expectation", rules]
    if notes:
        parts.append(notes)
    return "\n\n".join(parts)


def figures(verdicts: Sequence[Verdict], controls: Sequence[Control]) -> dict[str, object]:
    return {
        "scenarios": list(verdicts),
        "controls": [
            {"lie": control.lie, "breaks": control.broken, "caught": control.caught}
            for control in controls
        ],
    }


def _table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| id | injected | expected | observed | by speed | verdict |"]
    lines.append("|---|---|---|---|---|---|")
    for verdict in verdicts:
        said = f"**{verdict.verdict}**" if verdict.verdict == "FAILED" else verdict.verdict
        timed = "yes" if verdict.timed else ""
        cells = (verdict.id, verdict.injected, verdict.expected, verdict.observed, timed, said)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _controls(controls: Sequence[Control]) -> str:
    lines = ["| a service that … | must break | the checker said | caught |", "|---|---|---|---|"]
    for control in controls:
        said = "; ".join(map(str, control.verdict.violations)) or "nothing"
        caught = "yes" if control.caught else "**no**"
        cells = (f"{control.lie}: {control.does}", control.broken or "nothing", said, caught)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """One line, no bars: results are read as a table."""
    return " ".join(text.replace("|", "/").split())
