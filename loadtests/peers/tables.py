"""The comparison as tables and a plot: one row a peer, medians over the repeats."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.peers.catalogue import OURS, Peer
from loadtests.peers.schedule import Point, best, capacity, figure, hopeless

TITLES = {
    "simulated": "Simulated accelerator: 2 ms a batch and 20 us a request",
    "default": "all-MiniLM-L6-v2, float32",
}
BROKEN_SHARE = 0.01  # More failed than this is said in the cell.


def closed_of(points: Sequence[Point], peer: str, load: str, callers: float) -> list[Point]:
    return [
        p for p in points if (p.peer, p.load, p.kind, p.level) == (peer, load, "closed", callers)
    ]


def open_of(points: Sequence[Point], peer: str, load: str, share: float) -> list[Point]:
    return [p for p in points if (p.peer, p.load, p.kind, p.share) == (peer, load, "open", share)]


def table(points: Sequence[Point], peers: Sequence[str], load: str) -> str:
    """Requests a second by callers; p95 in ms by rate. The first of each column is bold."""
    callers = sorted({p.level for p in points if p.load == load and p.kind == "closed"})
    rates = sorted({(p.share, p.level) for p in points if p.load == load and p.kind == "open"})
    heads = [f"{n:g} caller{'s' * (n > 1)}, req/s" for n in callers]
    heads += [f"{rate:,g}/s, p95 ms" for _, rate in rates]
    columns = [
        {name: _throughput(closed_of(points, name, load, n)) for name in peers} for n in callers
    ]
    columns += [
        {name: _latency(points, name, load, share, rate) for name in peers} for share, rate in rates
    ]
    firsts = [_first(column, highest=at < len(callers)) for at, column in enumerate(columns)]
    lines = ["| server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in peers:
        cells = [
            f"**{column[name][1]}**" if name == first else column[name][1]
            for column, first in zip(columns, firsts, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


Cell = tuple[float | None, str]  # To be compared by, and as shown.
_NOTHING: Cell = (None, "-")  # Not measured.


def _throughput(found: Sequence[Point]) -> Cell:
    value = figure(found, "per_s")
    if value is None:
        return _NOTHING
    failed = _failures(found)  # wrk counts an answer as an answer, whatever it says.
    return (None if failed else value), f"{value:,.0f}" + failed


def _latency(points: Sequence[Point], peer: str, load: str, share: float, rate: float) -> Cell:
    found = open_of(points, peer, load, share)
    value = figure(found, "p95_ms")
    if value is None:
        over = capacity(points, peer, load) and hopeless(points, peer, load, rate)
        return (None, "over") if over else _NOTHING
    failed = _failures(found)
    return (None if failed else value), f"{value:,.1f}" + failed


def _failures(found: Sequence[Point]) -> str:
    failed, requests = figure(found, "failed"), figure(found, "requests")
    if not failed or not requests or failed / requests <= BROKEN_SHARE:
        return ""
    return f" ({failed / requests:.0%} failed)"


def _first(column: Mapping[str, Cell], highest: bool) -> str | None:
    values = {name: value for name, (value, _) in column.items() if value is not None}
    if not values:
        return None
    return max(values, key=values.__getitem__) if highest else min(values, key=values.__getitem__)


def behind(points: Sequence[Point], peers: Sequence[str], loads: Sequence[str]) -> list[str]:
    """Each line on which another is ahead of ours, in words."""
    found = []
    for load in loads:
        lines = {(p.kind, p.share or p.level, p.level) for p in points if p.load == load}
        for kind, what, level in sorted(lines):
            closed = kind == "closed"
            column = {
                name: _throughput(closed_of(points, name, load, level))
                if closed
                else _latency(points, name, load, what, level)
                for name in peers
            }
            first = _first(column, highest=closed)
            was_measured = column.get(OURS, _NOTHING) != _NOTHING
            if first and was_measured and not first.startswith(OURS):
                unit = f"{level:g} callers, req/s" if closed else f"{level:,g}/s, p95 ms"
                found.append(f"{load}, {unit}: {first} {column[first][1]}, ours {column[OURS][1]}")
    return found


def cost(points: Sequence[Point], peers: Sequence[str], load: str, callers: float) -> str:
    """What a request costs: CPU of all the server's processes, and memory."""
    lines = ["| server | req/s | CPU us a request | cores | MB |", "|---|---|---|---|---|"]
    for name in peers:
        found = closed_of(points, name, load, callers)
        rate, cores = figure(found, "per_s"), figure(found, "cores")
        if rate and cores is not None:
            memory = figure(found, "resident_mb") or 0.0
            lines.append(
                f"| {name} | {rate:,.0f} | {cores / rate * 1e6:,.0f} | {cores:.2f} "
                f"| {memory:,.0f} |"
            )
    return "\n".join(lines)


def catalogue(
    peers: Sequence[Peer], versions: Mapping[str, Mapping[str, str]], absent: Mapping[str, str]
) -> str:
    """One row a peer: versions, knobs, and why it is not in the tables where it is not."""
    lines = ["| server | versions | configuration | |", "|---|---|---|---|"]
    for peer in peers:
        named = ", ".join(f"{name} {value}" for name, value in versions[peer.name].items())
        reason = absent.get(peer.name, "")
        lines.append(
            f"| {peer.name} | {named} | {peer.knobs} | {f'not run: {reason}' if reason else ''} |"
        )
    return "\n".join(lines)


def plot(path: Path, points: Sequence[Point], peers: Sequence[str], loads: Sequence[str]) -> None:
    """For each load: throughput by callers, and p95 by rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure_, axes = pyplot.subplots(len(loads), 2, figsize=(12, 4.6 * len(loads)), squeeze=False)
    colours = pyplot.get_cmap("tab20").colors
    for row, load in zip(axes, loads, strict=True):
        for number, name in enumerate(peers):
            own = {p.level for p in points if (p.peer, p.load, p.kind) == (name, load, "closed")}
            style = {
                "color": "black" if name == OURS else colours[number % len(colours)],
                "linewidth": 2.5 if name == OURS else 1.2,
                "marker": "o",
                "markersize": 4,
                "label": name,
            }
            xs = sorted(own)
            ys = [figure(closed_of(points, name, load, x), "per_s") for x in xs]
            row[0].plot(xs, ys, **style)
            shares = sorted({p.share for p in points if (p.load, p.kind) == (load, "open")})
            runs = [found for share in shares if (found := open_of(points, name, load, share))]
            row[1].plot(
                [found[0].level for found in runs],
                [figure(found, "p95_ms") for found in runs],
                **style,
            )
        row[0].set(xscale="log", yscale="log", xlabel="callers", ylabel="requests a second")
        row[1].set(xscale="log", yscale="log", xlabel="requests a second", ylabel="p95, ms")
        row[0].set_title(f"{TITLES[load]}: closed loop", fontsize=10)
        row[1].set_title(f"Poisson arrivals (best seen {best(points, load):,.0f}/s)", fontsize=10)
        for axis in row:
            axis.grid(which="both", alpha=0.25)
        row[0].legend(fontsize=7)
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=120)
    pyplot.close(figure_)
