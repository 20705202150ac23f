"""What scenarios of bad input and bad networks share: raw requests, many at once, and verdicts."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import uvloop

from loadtests.chaos.bench import Bench
from loadtests.drivers.raw_http import Reply, exchange
from loadtests.drivers.timer import now
from loadtests.fuzz.attacks import Attack, everything, post
from loadtests.fuzz.run_attacks import Result, once
from loadtests.reports.finding import Finding, observed

PARALLEL = 8
Made = TypeVar("Made")


def run_async(bench: Bench, work: Callable[[], Coroutine[Any, Any, Made]]) -> Made:
    """Runs it on an event loop of its own. None of its requests is in the history."""
    bench.raw = True
    made: Made = uvloop.run(work())
    return made


def check_attacks(bench: Bench, right: Callable[[Attack], bool], repeats: int = 3) -> Finding:
    """All attacks that are `right`, each a few times: answered as they should be, or closed."""
    chosen = [attack for attack in everything() if right(attack)]
    assert chosen, "no such attack: this is a bug"
    result, wrong = Result(), []
    began = now()
    for attack in chosen:
        one = Result()
        run_async(bench, partial(_repeat, bench, attack, one, repeats))
        result.answers += one.answers
        result.slowest = max(result.slowest, one.slowest)
        if one.wrong:
            wrong.append(f"{attack.name} ({_tell(one.answers)})")
    shown = f"; wrong: {', '.join(wrong)}" if wrong else ""
    return observed(
        not wrong,
        f"{len(chosen)} kinds, {repeats} of each in {now() - began:.1f} s: {_tell(result.answers)};"
        f" slowest {result.slowest:.2f} s{shown}",
    )


def answers_to(
    bench: Bench, bodies: Sequence[object], path: str = "/embed"
) -> list[tuple[int, Any]]:
    """Status and document of each body (an object is written as JSON), one after the other."""

    async def ask() -> list[tuple[int, Any]]:
        found = []
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            found.append(status_and_json(await exchange(bench.target, [post(data, path=path)])))
        return found

    return run_async(bench, ask)


def check_statuses(bench: Bench, wanted: Iterable[tuple[str, object, Sequence[int]]]) -> Finding:
    """`(name, body, right statuses)` of /embed; errors must be JSON."""
    cases = list(wanted)
    answers = answers_to(bench, [body for _, body, _ in cases])
    wrong = [
        f"{name}: {status}"
        for (name, _, right), (status, said) in zip(cases, answers, strict=True)
        if status not in right or said is None
    ]
    counts = _tell(Counter(str(status) for status, _ in answers))
    shown = f"; wrong: {', '.join(wrong)}" if wrong else ""
    return observed(not wrong, f"{len(cases)} requests: {counts}{shown}")


def status_and_json(reply: Reply) -> tuple[int, Any]:
    """Of the first answer; the document is None where it is no JSON, and the status 0 for none."""
    if not reply.statuses:
        return 0, None
    _, _, body = reply.data[reply.data.rindex(b"HTTP/1.1 %d" % reply.statuses[0]) :].partition(
        b"\r\n\r\n"
    )
    try:
        return reply.statuses[0], json.loads(body)
    except ValueError:
        return reply.statuses[0], None


async def _repeat(bench: Bench, attack: Attack, result: Result, repeats: int) -> None:
    await asyncio.gather(*(once(bench.target, attack, result) for _ in range(repeats)))


def _tell(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
