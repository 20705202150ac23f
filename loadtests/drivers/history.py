"""Every request that was sent and the one thing that came of it."""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadtests.drivers.http_client import Answer
from loadtests.drivers.outcomes import percentiles
from loadtests.drivers.reference_answers import EMBED, Ask
from loadtests.drivers.reference_answers import Vector as Vector
from loadtests.drivers.timer import now

Kind = Literal["invoked", "ok", "failed", "unknown"]


@dataclass(slots=True)
class Call:
    """One request. Times are seconds on the timer's clock; `answered` is 0 until it is."""

    text: str
    timeout: float  # Seconds that the service was given for it.
    scheduled: float
    ask: Ask = EMBED
    sent: float = 0.0
    answered: float = 0.0
    status: int = 0  # 0: no whole HTTP answer came.
    error: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    outcomes: int = 0  # How many terminal outcomes it had: one is right.
    abandoned: bool = False  # Nobody listens any more: it keeps the outcomes that it has.

    def settle(self, answer: Answer) -> None:
        if self.abandoned:
            return
        self.outcomes += 1
        if self.outcomes > 1:
            return
        self.answered = now()
        self.status, self.error, self.body = answer.status, answer.error, answer.body
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers
        }

    @property
    def kind(self) -> Kind:
        """`invoked`: nothing came of it. `unknown`: the connection ended; it may have run."""
        if not self.outcomes:
            return "invoked"
        if not self.status:
            return "unknown"
        return "ok" if self.status == 200 else "failed"

    @property
    def outcome(self) -> str:
        return str(self.status) if self.status else self.error or "lost"

    @property
    def latency(self) -> float:
        return self.answered - self.scheduled

    @property
    def document(self) -> object:
        """The body as JSON; None where it is none."""
        try:
            document: object = json.loads(self.body)
        except ValueError:
            return None
        return document

    @property
    def vector(self) -> Vector | None:
        """The numbers of a 200; None where there are none, or no finite ones."""
        return self.ask.vector(self.document)


class History:
    """Calls in the order in which they were begun. Any thread may add."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def begin(self, text: str, timeout: float, scheduled: float, ask: Ask = EMBED) -> Call:
        call = Call(text, timeout, scheduled, ask)
        with self._lock:
            self._calls.append(call)
        return call

    @property
    def calls(self) -> list[Call]:
        with self._lock:
            return list(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self._calls)

    def outcomes(self) -> Counter[str]:
        """How many of each status, or of each way a connection ended."""
        return Counter(call.outcome for call in self.calls)

    def __str__(self) -> str:
        return " ".join(f"{name}:{count}" for name, count in sorted(self.outcomes().items()))


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
