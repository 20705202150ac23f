"""Which settings carry the highest rate within a p95: measured on this machine, with this model.

Looks at the default service, then at settings that change one thing each, in short runs; keeps the
better half, joins the two best, looks closer. At last the best of them and the default are measured
in turn at the same rates, several times: if they are equal within the noise, the answer is the
default. What BATCHER_ variables set beside the tuned ones holds for every candidate.
"""

import argparse
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from loadtests.drivers import closedloop, workloads
from loadtests.drivers.outcomes import OK, percentiles
from loadtests.drivers.target import count_between, number_between
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.plots import check_matplotlib
from loadtests.reports.record import Record
from loadtests.tune import report as tune_report
from loadtests.tune.bench import CALLERS, Bench, base_settings, check, shown
from loadtests.tune.candidates import SIZE, THREADS, TOKENS, WAIT, Seen, alternatives
from loadtests.tune.planned import Prediction, predict
from loadtests.tune.report import Tuned
from loadtests.tune.search import (
    DEFAULT,
    Candidate,
    Look,
    Search,
    across,
    first_guess,
    holds_somewhere,
    judge,
    rival,
    shared_rates,
)

MINUTES, QUICK_MINUTES = 6.0, 1.5
ENOUGH_REQUESTS = 200  # For a p95 that is worth a look; ten of them are beyond it.
LEAST_SECONDS, MOST_SECONDS = 1.5, 30.0
# Shares of the time; the rest is for the comparison. A slow start must leave the default its looks.
DEFAULT_UNTIL, RIVALS_UNTIL, DEFAULT_LEAST = 0.22, 0.6, 0.08
TOKENIZED = 256
PLANNING = 0.12  # Share of the time, at the end.

HOLDS, CANNOT = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument(
        "--p95-ms", type=number_between(0.1, 60_000), required=True, metavar="MS", help="the target"
    )
    parser.add_argument(
        "--minutes", type=number_between(0.5, 120), help=f"about; default: {MINUTES:g}"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_MINUTES:g} minutes, fewer candidates"
    )
    parser.add_argument("--texts", choices=workloads.KINDS, default="short")
    parser.add_argument("--runner", metavar="NAME", help="BATCHER_RUNNER of every candidate")
    parser.add_argument(
        "--threads", type=count_between(1, 1024), help="of every candidate; default: tuned on a CPU"
    )
    parser.add_argument("--seed", type=int, default=1, help="of texts and arrivals")


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 with an answer, 1 when no setting can keep the target."""
    check_matplotlib()
    base = base_settings(args.runner, args.threads)
    sentences = workloads.load_sentences(args.sentences)
    check(base)
    record = Record(args.out, args.name or "tune", configuration(args) | shown(base))
    tuner = Tuner(args, base, sentences, record)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # Stop them then, too.
    with tuner.bench.stopping():
        tuned = tuner.tune()
    if tuned is None:
        return CANNOT
    tune_report.plot(record.path / "tune.png", tuned)
    record.finish(
        f"Settings for a p95 within {args.p95_ms:g} ms", tune_report.body(tuned), figures(tuned)
    )
    return HOLDS if holds_somewhere(tuned.pooled(tuned.winner), args.p95_ms) else CANNOT


class Tuner:
    """One run of the command. Knows the time; the search and the bench do not."""

    def __init__(
        self,
        args: argparse.Namespace,
        base: dict[str, str],
        sentences: Sequence[str],
        record: Record,
    ) -> None:
        self._args, self._record = args, record
        self._target_ms: float = args.p95_ms
        self._seconds = 60 * (args.minutes or (QUICK_MINUTES if args.quick else MINUTES))
        self._started = time.monotonic()
        texts = functools.lru_cache(maxsize=16)(
            lambda seed: workloads.texts(args.texts, sentences, args.seed + seed)
        )
        self.bench = Bench(base, texts, self._target_ms, args.cpus, self._say)
        self._search = Search(self._look, self._target_ms, self._spent)

    def tune(self) -> Tuned | None:
        """None: said why not."""
        bench, search, quick = self.bench, self._search, self._args.quick
        self._say(f"about {self._seconds / 60:g} minutes for p95 <= {self._target_ms:g} ms")
        facts = bench.facts(DEFAULT)
        bench.keep_few(str(facts.get("device")))
        alone = bench.alone[DEFAULT]
        if self._cannot(DEFAULT):
            options = alternatives(self._seen(facts, []), self._target_ms, quick)
            faster = [each for each in options if each.variables() == {THREADS}]
            if all(self._cannot(each) for each in faster):
                return None
        lengths = self._lengths(str(facts.get("model_id")))
        guess = first_guess(alone.median, CALLERS, alone.together, self._target_ms / 1e3)
        until = max(DEFAULT_UNTIL, self._spent() + DEFAULT_LEAST)
        search.explore(DEFAULT, 4 if quick else 6, guess, until)
        options = alternatives(self._seen(facts, lengths), self._target_ms, quick)
        self._say(f"candidates: {', '.join(each.name for each in options) or 'none'}")
        challenger = rival(search, options, 2 if quick else 3, 1 if quick else 2, RIVALS_UNTIL)
        if not any(holds_somewhere(looks, self._target_ms) for looks in search.looks.values()):
            lowest = min(seen.rate for seen in bench.seen)
            print(f"no setting kept p95 within {self._target_ms:g} ms, down to {lowest:.3g}/s")
            return None
        tuned = Tuned(
            self._target_ms,
            search.looks,
            bench.seen,
            in_force(facts),
            left_out=search.left_out,
        )
        if challenger is not None:
            self._compare(challenger, tuned)
            self._predict(tuned, lengths)
        return tuned

    def _compare(self, challenger: Candidate, tuned: Tuned) -> None:
        """In turn, at the same rates, with the same arrivals; who goes first alternates."""
        quick, pair = self._args.quick, (DEFAULT, challenger)
        repeats, count = (2, 2) if quick else (3, 3)
        for each in pair:
            self.bench.ready(each)
        left = self._seconds * (1 - PLANNING - self._spent())
        seconds = min(MOST_SECONDS, max(LEAST_SECONDS, left / (2 * repeats * count) - 0.3))
        self._say(f"{challenger.name} against the default, {repeats} times {seconds:.1f} s a rate")
        tuned.final = {each: [] for each in pair}
        while len(tuned.final[DEFAULT]) < repeats:
            repeat = len(tuned.final[DEFAULT])
            if repeat == 0:
                tuned.rates = shared_rates([self._search.limit(each) for each in pair], count)
                first = not tuned.finals_from
                tuned.finals_from = len(tuned.seen)
            for each in pair if repeat % 2 == 0 else pair[::-1]:
                tuned.final[each].append(self._at_all(each, tuned.rates, repeat, seconds))
            looks = [tuned.final[each][0] for each in pair]
            if repeat == 0 and first and not across(looks, self._target_ms):
                self._say("the short looks had misled: once more, at other rates")
                for each in pair:
                    self._search.looks[each] += tuned.final[each].pop()
        tuned.verdict = judge(challenger, tuned.final, self._target_ms)

    def _at_all(
        self, candidate: Candidate, rates: Sequence[float], repeat: int, seconds: float
    ) -> list[Look]:
        looks = []
        for rate in rates:
            run = self.bench.look(candidate, rate, 100 + repeat, seconds)
            looks.append(self.bench.seen[-1].look)
            name = candidate.name.replace(" ", "-").replace("=", "-")
            self._record.raw(f"{name}-{rate:.4g}-{repeat + 1}", run)
        return looks

    def _predict(self, tuned: Tuned, lengths: Sequence[int]) -> None:
        """For both at the lowest rate, and at the others while there is time.

        The first failure is the last: the reason would be the same.
        """
        facts = {candidate: self.bench.facts(candidate) for candidate in tuned.final}
        for rate in tuned.rates:
            for candidate, known in facts.items():
                if rate != tuned.rates[0] and self._spent() > 1:
                    return
                size, tokens = int(known["max_batch_requests"]), known["max_batch_tokens"]
                settings = self.bench.settings(candidate)
                said = predict(settings, size, tokens, lengths, rate, self._target_ms)
                tuned.predictions[candidate, rate] = said
                planned = f"{said.p95_ms:.1f} ms" if isinstance(said, Prediction) else said
                self._say(f"{candidate.name}: {rate:.4g}/s: planned p95: {planned}")
                if not any(isinstance(each, Prediction) for each in tuned.predictions.values()):
                    return

    def _look(self, candidate: Candidate, rate: float, which: int) -> Look:
        most = max(LEAST_SECONDS, self._seconds / 60)
        seconds = min(most, max(LEAST_SECONDS, ENOUGH_REQUESTS / rate))
        # At a very low rate a look must still have somebody to look at.
        self.bench.look(candidate, rate, which, max(seconds, 10 / rate))
        return self.bench.seen[-1].look

    def _cannot(self, candidate: Candidate) -> bool:
        self.bench.ready(candidate)
        alone_ms = self.bench.alone[candidate].median * 1e3
        if alone_ms > self._target_ms:
            print(
                f"{candidate.name}: one request alone takes {alone_ms:.1f} ms, more than the "
                f"{self._target_ms:g} ms asked for"
            )
        return alone_ms > self._target_ms

    def _seen(self, facts: dict[str, Any], lengths: Sequence[int]) -> Seen:
        held = [seen for seen in self.bench.seen if seen.look.p95_ms <= self._target_ms]
        largest = max((seen.largest_batch for seen in held), default=1)
        padded = int(largest * percentiles(lengths, (95,))[0])
        on_cpu = facts.get("device") == "cpu" and self._args.threads is None
        threads = facts["facts"].get("threads") if on_cpu else None
        return Seen(
            max_batch_size=int(facts["max_batch_requests"]),
            largest_batch=largest,
            # Of one length, tokens are requests by another name: the size is tuned instead.
            largest_tokens=None if self._args.texts == "short" else padded,
            threads=threads,
            cores=len(self._args.cpus or os.sched_getaffinity(0)),
        )

    def _lengths(self, model: str) -> list[int]:
        """Tokens of some of the texts, as the service counts them; none if it does not say."""
        server = self.bench.ready(DEFAULT)
        sentences = workloads.load_sentences(self._args.sentences)
        texts = workloads.texts(self._args.texts, sentences, self._args.seed, TOKENIZED)
        bodies = [
            server.target.post(
                "/v1/embeddings", json.dumps({"model": model, "input": text}).encode()
            )
            for text in texts
        ]
        run = closedloop.drive(
            server.target, bodies, CALLERS, 10.0, most=len(bodies), keep_bodies=True
        )
        answers = [json.loads(out.body) for out in run.outcomes if out.status == OK]
        return [answer["usage"]["prompt_tokens"] for answer in answers]

    def _spent(self) -> float:
        return (time.monotonic() - self._started) / self._seconds

    def _say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._started:4.0f} s] {line}", flush=True)


def in_force(facts: dict[str, Any]) -> dict[str, object]:
    """The tuned settings as the default service has them."""
    named = {
        SIZE: facts.get("max_batch_requests"),
        TOKENS: facts.get("max_batch_tokens"),
        WAIT: 0,
        THREADS: facts["facts"].get("threads"),
    }
    return {name: value for name, value in named.items() if value is not None}


def figures(tuned: Tuned) -> dict[str, object]:
    """summary.json."""
    verdict = tuned.verdict
    return {
        "target_p95_ms": tuned.target_ms,
        "environment": dict(tuned.winner.settings),
        "gains": verdict.gains if verdict else (),
        "noise": verdict.noise if verdict else None,
        "limits": {each.name: rate for each, rate in verdict.limits.items()} if verdict else {},
        "planned": [
            {
                "settings": candidate.name,
                "rate": rate,
                "p95_ms": said.p95_ms if isinstance(said, Prediction) else None,
                "limit": said.limit if isinstance(said, Prediction) else None,
            }
            for (candidate, rate), said in tuned.predictions.items()
        ],
        "left_out": list(tuned.left_out),
        "compared_from": tuned.finals_from,
        "runs": list(tuned.seen),
    }
