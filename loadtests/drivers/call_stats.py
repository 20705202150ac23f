"""What scenarios say of their calls, in a line."""

from collections import Counter
from collections.abc import Iterable, Sequence

from loadtests.drivers.history import Call
from loadtests.drivers.outcomes import percentiles


def tell(calls: Iterable[Call]) -> str:
    """`200: 120, 429: 3`"""
    counts = Counter(call.outcome for call in calls)
    return ", ".join(f"{outcome}: {count}" for outcome, count in sorted(counts.items())) or "none"


def only(calls: Iterable[Call], *outcomes: int) -> bool:
    """No call ended any other way, and there was one."""
    ended = {call.outcome for call in calls}
    return bool(ended) and ended <= {str(outcome) for outcome in outcomes}


def share(calls: Sequence[Call], status: int) -> float:
    return sum(call.status == status for call in calls) / len(calls) if calls else 0.0


def p95(calls: Iterable[Call], status: int = 200) -> float:
    """Seconds, of the calls that ended so; 0 when there are none."""
    return percentiles([call.latency for call in calls if call.status == status], (95,))[0]


def p99(calls: Iterable[Call], status: int = 200) -> float:
    return percentiles([call.latency for call in calls if call.status == status], (99,))[0]


def between(calls: Iterable[Call], begin: float, end: float = float("inf")) -> list[Call]:
    """Those that were due then."""
    return [call for call in calls if begin <= call.scheduled < end]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"
