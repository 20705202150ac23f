"""This service beside LitServe, mosec, Ray Serve and others: one model, the same load for each.

Two loads: the default model, and a simulated accelerator, which shows what the serving stack itself
costs. The closed loop is wrk, at several numbers of callers; the open loop is Poisson at shares of
the best throughput that any server reached, timed from the scheduled send. Servers and generators
share the machine's cores, unpinned. Every server's answers are checked before it is measured; the
texts are all different, so that none are shared. A server is not asked for rates far above the most
it could serve. `--resume` goes on where an earlier run was stopped.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from loadtests.drivers import workloads
from loadtests.drivers.target import count_between, number_between
from loadtests.peers import install, measure, schedule, serving, tables
from loadtests.peers.catalogue import PEERS, Peer, named
from loadtests.peers.options import LOADS, Options
from loadtests.peers.schedule import Point, Visit
from loadtests.reports.options import add_common_arguments, configuration
from loadtests.reports.plots import check_matplotlib
from loadtests.reports.record import Record

POINTS = "points.jsonl"
START_SECONDS = 8.0  # An estimate: to start, check, warm and stop a server.
CHECKED = 64  # Texts whose vectors are compared with the reference.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--only", type=_names, default=[p.name for p in PEERS], metavar="NAME,...")
    parser.add_argument("--loads", type=_loads, default=LOADS, metavar=",".join(LOADS))
    parser.add_argument("--callers", type=_callers, default=schedule.CALLERS, metavar="1,8,...")
    parser.add_argument("--shares", type=_shares, default=None, metavar="0.3,...", help="of best")
    parser.add_argument("--repeats", type=count_between(1, 9), default=3)
    parser.add_argument(
        "--seconds",
        type=number_between(1, 60),
        default=2.0,
        help="of each point; half with few callers",
    )
    parser.add_argument("--minutes", type=number_between(0.5, 240), default=40.0, help="at most")
    parser.add_argument("--threads", type=count_between(1, 256), default=2, help="of a forward")
    parser.add_argument("--environments", type=Path, default=install.DEFAULT_FOLDER, metavar="DIR")
    parser.add_argument("--resume", type=Path, metavar="RESULTS", help="the folder of a run")


def run(args: argparse.Namespace) -> int:
    """The command: returns 0 when every peer that is installed was measured."""
    check_matplotlib()
    give_up = time.monotonic() + args.minutes * 60
    peers = named(args.only)
    absent = {peer.name: install.missing(peer, args.environments) for peer in peers}
    absent = {name: reason for name, reason in absent.items() if reason}
    present = {peer.name: peer for peer in peers if peer.name not in absent}
    shares = {load: args.shares or schedule.SHARES[load] for load in LOADS}
    plan = list(
        schedule.visits(
            {name: peer.loads for name, peer in present.items()},
            args.loads,
            args.repeats,
            args.callers,
            shares,
        )
    )
    record = Record(args.out, args.name or "peers", configuration(args), args.resume)
    points = read_points(record.path / POINTS)
    seconds = schedule.seconds_of(plan, args.seconds, START_SECONDS)
    print(f"about {seconds / 60:.0f} minutes, at most {args.minutes:g}", flush=True)
    for name, reason in absent.items():
        print(f"{name}: not run: {reason}", flush=True)
    rounds = Rounds(args, present, record, points)
    for number, visit in enumerate(plan, 1):
        if visit.peer in absent or rounds.is_done(visit):
            continue
        if time.monotonic() > give_up:
            print("out of time; `--resume` goes on from here", flush=True)
            break
        print(f"[{number}/{len(plan)}] {visit.load} {visit.peer} #{visit.repeat}", flush=True)
        try:
            rounds.make(visit)
        except (RuntimeError, OSError) as error:
            absent[visit.peer] = str(error)
            print(f"{visit.peer}: not run: {error}", flush=True)
    write(record, points, peers, args, absent)
    return 1 if any(name in absent for name in present) else 0


class Rounds:
    """Makes the visits of a plan; what is measured is written down at once."""

    def __init__(
        self,
        args: argparse.Namespace,
        peers: Mapping[str, Peer],
        record: Record,
        points: list[Point],
    ) -> None:
        self._args, self._peers, self._record = args, peers, record
        self._sentences = workloads.load_sentences(args.sentences)
        self._references: dict[str, serving.Reference] = {}
        self.points = points

    def is_done(self, visit: Visit) -> bool:
        return not any(self._wanted(visit))

    def make(self, visit: Visit) -> None:
        peer = self._peers[visit.peer]
        options = Options(load=visit.load, threads=self._args.threads)
        texts = workloads.texts("short", self._sentences, visit.repeat)
        reference = self._reference(options)
        environments, cpus = self._args.environments, self._args.cpus
        with serving.serving(peer, options, environments, texts[0], cpus) as server:
            reference.check(peer, server.target)
            bench = measure.Bench(peer, server, texts, self._args.seconds)
            bench.warm()
            # Two open loops of one visit are kept apart: what the machine does lasts a while.
            for repeat in visit.opens[:-1]:
                self._open(bench, visit, repeat)
            for callers in measure.missing_callers(visit, self.points):
                self._keep(bench.closed(visit, callers))
            for repeat in visit.opens[-1:]:
                self._open(bench, visit, repeat)

    def _open(self, bench: measure.Bench, visit: Visit, repeat: int) -> None:
        for share in measure.missing_shares(visit, self.points, repeat):
            rate = schedule.rate_of(self.points, visit.load, share)
            self._keep(bench.open(visit, repeat, rate, share))

    def _wanted(self, visit: Visit) -> Sequence[float]:
        return [
            *measure.missing_callers(visit, self.points),
            *(n for r in visit.opens for n in measure.missing_shares(visit, self.points, r)),
        ]

    def _reference(self, options: Options) -> serving.Reference:
        if options.load not in self._references:
            texts = workloads.texts("short", self._sentences, 0)[:CHECKED]
            self._references[options.load] = serving.Reference(options, texts)
        return self._references[options.load]

    def _keep(self, point: Point) -> None:
        self.points.append(point)
        self._record.line(POINTS, json.dumps(asdict(point)))
        what = f"{point.level:g} callers" if point.kind == "closed" else f"{point.level:g}/s"
        print(
            f"  {what:>12}: {point.per_s:8.1f}/s  p50 {point.p50_ms:.1f}  p95 {point.p95_ms:.1f}"
            f"  p99 {point.p99_ms:.1f} ms  failed {point.failed}/{point.requests}"
            f"  {point.cores:.2f} cores{'  GENERATOR LATE' if point.late else ''}",
            flush=True,
        )


def read_points(path: Path) -> list[Point]:
    """What an earlier run has measured; nothing where there was none."""
    if not path.exists():
        return []
    return [Point(**json.loads(line)) for line in path.read_text().splitlines()]


def write(
    record: Record,
    points: Sequence[Point],
    peers: Sequence[Peer],
    args: argparse.Namespace,
    absent: Mapping[str, str],
) -> None:
    """summary.md, summary.json and the plot."""
    measured = [load for load in args.loads if any(point.load == load for point in points)]
    names = [peer.name for peer in peers if any(point.peer == peer.name for point in points)]
    parts = []
    for load in measured:
        own = [name for name in names if any((p.peer, p.load) == (name, load) for p in points)]
        parts.append(f"## {tables.TITLES[load]}\n\n" + tables.table(points, own, load))
        parts.append(
            "What a request costs at 64 callers (CPU of all processes of the server):\n\n"
            + tables.cost(points, own, load, 64)
        )
    parts.insert(
        0,
        "Medians of the repeats; bold: the first of its column. Closed loop: wrk, one thread; half "
        f"as long with up to {schedule.FEW} callers. "
        "Open loop: Poisson, p95 from the scheduled send; the rates are shares of the best "
        "throughput that any server reached in the first round; `over`: more than "
        f"{schedule.HOPELESS:g} times the most that this server reached, not measured. Server and "
        "generator share the cores. Texts are all different.",
    )
    ahead = tables.behind(points, names, measured)
    lines = "\n".join(f"- {line}" for line in ahead or ["none"])
    parts.append(f"Lines on which another is ahead of ours:\n\n{lines}")
    late = sum(point.late for point in points)
    if late:
        parts.append(f"The generator itself was late (p99 over 5 ms) in {late} measurements.")
    versions = {peer.name: install.versions(peer, args.environments) for peer in peers}
    parts.append(tables.catalogue(peers, versions, absent))
    if measured:
        record.folder()
        tables.plot(record.path / "peers.png", points, names, measured)
        parts.append("![throughput by callers, p95 by rate](peers.png)")
    figures = {"versions": versions, "not run": dict(absent), "ahead of ours": ahead}
    record.finish("Beside other servers", "\n\n".join(parts), figures)


def _names(text: str) -> list[str]:
    try:
        return [peer.name for peer in named(text.split(","))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _loads(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(LOADS):
        raise argparse.ArgumentTypeError(f"no load {', '.join(unknown)}: {', '.join(LOADS)}")
    return [load for load in LOADS if load in text.split(",")]


def _callers(text: str) -> list[int]:
    return [count_between(1, 1024)(part) for part in text.split(",")]


def _shares(text: str) -> list[float]:
    return [number_between(0.01, 2)(part) for part in text.split(",")]
