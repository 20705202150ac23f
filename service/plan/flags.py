"""What the user asks, checked. Every flag of the service is one here, too.

A wrong value ends with one line that names the flag, the value and the rule.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.arguments import Parser, add_settings, load
from service.plan.traffic import BadTraffic, Lengths, read_arrivals
from service.settings import Settings

# What is outside the model where nobody says otherwise.
HANDOFF_MS = 1.0
OVERHEAD_MS = 1.0
SECONDS = 60.0
HOUR = 3.6e6  # ms


class BadFlag(Exception):
    """One line that names the flag, the value and the rule."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Times in seconds, rates in requests a second."""

    settings: Settings
    rate: float
    p95: float
    deadline: float  # infinite: none
    seconds: float
    seed: int
    handoff: float
    overhead: float
    gaps: tuple[float, ...] | None  # of the recorded arrivals; None: Poisson
    lengths: Lengths | None  # None: as the profile says
    by_hand: tuple[float, float, float] | None  # a batch, each request, each token
    replicas: int | None  # None: as many as it takes
    per_machine: int
    devices: int  # of a machine
    max_batch_size: int | None  # None: whichever is best
    max_batch_tokens: int | None
    plot: Path | None
    as_json: bool


def ask(arguments: Sequence[str]) -> Asked:
    """Raises BadFlag or BadSetting; argparse ends the process for what is no flag at all."""
    typed = vars(_parser().parse_args(arguments))
    own = {name: typed.pop(name) for name in list(typed) if name not in Settings.model_fields}
    settings = load(typed)
    fixed = set(typed) & {"replicas", "max_batch_size", "max_batch_tokens"}
    is_set = settings.model_fields_set & {"request_timeout_ms", "target_latency_ms"}
    timeout_ms = settings.deadline * 1e3 if is_set else None
    p95_ms = own["p95_ms"] or settings.target_latency_ms  # a timeout is no target
    if p95_ms is None:
        raise BadFlag("--p95-ms is missing: the latency that 95 % of the requests must keep")
    deadline_ms = own["deadline_ms"] or timeout_ms
    parts = [own[name] for name in ("fixed_ms", "per_item_ms", "per_token_us")]
    given = settings.replicas if settings.replicas != "auto" else None
    replicas = given if "replicas" in fixed else None
    return Asked(
        settings=settings,
        rate=own["rate"],
        p95=p95_ms / 1e3,
        deadline=deadline_ms / 1e3 if deadline_ms else math.inf,
        seconds=own["seconds"],
        seed=own["seed"],
        handoff=own["handoff_ms"] / 1e3,
        overhead=own["overhead_ms"] / 1e3,
        gaps=own["arrivals"],
        lengths=own["lengths"],
        by_hand=_by_hand(parts),
        replicas=replicas,
        per_machine=_per_machine(own["replicas_per_machine"], replicas, settings),
        devices=_devices(settings.device),
        max_batch_size=settings.max_batch_size if "max_batch_size" in fixed else None,
        max_batch_tokens=settings.max_batch_tokens if "max_batch_tokens" in fixed else None,
        plot=own["plot"],
        as_json=own["json"],
    )


def _by_hand(parts: Sequence[float | None]) -> tuple[float, float, float] | None:
    if all(part is None for part in parts):
        return None
    fixed, each, token = (part or 0.0 for part in parts)
    if fixed + each + token == 0.0:
        raise BadFlag("--fixed-ms 0: a batch must take some time; raise it or --per-item-ms")
    return fixed / 1e3, each / 1e3, token / 1e6


def _per_machine(asked: int | None, replicas: int | None, settings: Settings) -> int:
    if asked is None:
        each = settings.replicas if isinstance(settings.replicas, int) else 1
        return replicas or each * _devices(settings.device)
    if replicas is not None and replicas > asked and replicas % asked:
        raise BadFlag(
            f"--replicas {replicas}: must be a multiple of --replicas-per-machine {asked}"
        )
    return asked


def _devices(device: str) -> int:
    """How many this machine has: those listed, else its NVIDIA devices, else 1: the processor."""
    if device != "auto":
        return len(device.split(","))
    return max(1, len(list(Path("/dev").glob("nvidia[0-9]*"))))


def _parser() -> Parser:
    made = Parser(
        prog="batcher plan",
        description="How many replicas, and with which limits, for this traffic: the service's own"
        " policy, in virtual time, over the measured speed of the model.",
        epilog="Exit codes: 0 the plan keeps the target; 1 it cannot be kept; 2 a bad flag, or no"
        " speed to plan with.",
        allow_abbrev=False,
    )
    rate = _number("a number from 0.001 to 1e9", lambda value: 1e-3 <= value <= 1e9)
    seconds = _number("a number from 1 to 3600", lambda value: 1 <= value <= 3600)
    above = _number("a number above 0, at most an hour", lambda value: 0 < value <= HOUR)
    whole = _number(
        "a whole number from 1 to 1024", lambda value: 1 <= value <= 1024 and value % 1 == 0
    )
    positive = _number("a number of at least 0, at most an hour", lambda value: 0 <= value <= HOUR)
    traffic = made.add_argument_group("the traffic")
    traffic.add_argument("--rate", type=rate, required=True, metavar="N", help="requests a second")
    traffic.add_argument(
        "--p95-ms",
        type=above,
        metavar="MS",
        help="95 %% of the requests must be answered within this"
        " (default: BATCHER_REQUEST_TIMEOUT_MS, if it is set)",
    )
    traffic.add_argument(
        "--arrivals",
        type=_recorded,
        metavar="FILE",
        help="recorded arrivals, replayed at --rate: a CSV file with a TIMESTAMP column, or"
        " seconds, one a line (default: Poisson)",
    )
    traffic.add_argument(
        "--lengths",
        type=_lengths,
        metavar="SPEC",
        help="tokens of a request: fixed:N, lognormal:MEDIAN:SIGMA[:MAX] (MAX: 512 if not given),"
        " or a FILE with one number a line (default: the middle length of the saved profile,"
        " else fixed:16)",
    )
    traffic.add_argument(
        "--deadline-ms",
        type=above,
        metavar="MS",
        help="a request that would miss it is refused or dropped, as by the service (default:"
        " BATCHER_REQUEST_TIMEOUT_MS, if it is set)",
    )
    traffic.add_argument(
        "--seconds",
        type=seconds,
        default=SECONDS,
        metavar="S",
        help="of traffic for the final answer, 600,000 requests at the most"
        f" (default: {SECONDS:g})",
    )
    traffic.add_argument(
        "--seed", type=_seed, default=1, metavar="N", help="equal seeds, equal plans (default: 1)"
    )
    speed = made.add_argument_group("the speed of the model, if not from its saved profile")
    speed.add_argument("--fixed-ms", type=positive, metavar="MS", help="time of a batch")
    speed.add_argument("--per-item-ms", type=positive, metavar="MS", help="and of each request")
    speed.add_argument("--per-token-us", type=positive, metavar="US", help="and of each token")
    speed.add_argument(
        "--handoff-ms",
        type=positive,
        default=HANDOFF_MS,
        metavar="MS",
        help="from the end of a batch to the start of the next while requests wait: the way to the"
        f" worker and back (default: {HANDOFF_MS:g})",
    )
    speed.add_argument(
        "--overhead-ms",
        type=positive,
        default=OVERHEAD_MS,
        metavar="MS",
        help=f"what HTTP adds to each answer, as a client sees it (default: {OVERHEAD_MS:g})",
    )
    answer = made.add_argument_group("the answer")
    answer.add_argument(
        "--replicas-per-machine",
        type=_int(whole),
        metavar="N",
        help="(default: BATCHER_REPLICAS, else the devices of this machine, else 1)",
    )
    answer.add_argument(
        "--plot", type=_picture, metavar="FILE.png", help="draw latency against rate"
    )
    answer.add_argument("--json", action="store_true", help="for machines")
    add_settings(
        made.add_argument_group(
            "the service: --replicas, --max-batch-size and"
            " --max-batch-tokens are planned for if given, else found"
        )
    )
    return made


def _number(rule: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not holds(value):
            raise argparse.ArgumentTypeError(f"{text!r}: must be {rule}")
        return value

    return read


def _int(read: Callable[[str], float]) -> Callable[[str], int]:
    return lambda text: int(read(text))


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 0")
    return int(text)


def _recorded(text: str) -> tuple[float, ...]:
    try:
        return read_arrivals(Path(text))
    except BadTraffic as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _lengths(text: str) -> Lengths:
    try:
        return Lengths.parse(text)
    except BadTraffic as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must end in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no folder {str(path.parent)!r}")
    return path
