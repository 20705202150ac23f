"""How long a batch takes, and where that is known from. Seconds."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batcher.scheduling.simulate import Point
from service.cache.profiles import latest_profile
from service.settings import Settings

MIDDLE = 16  # tokens of a request where nothing says more


class Device(Protocol):
    @property
    def source(self) -> str:
        """Where this is known from, in words."""

    @property
    def middle(self) -> int:
        """Tokens of a usual request."""

    @property
    def points(self) -> Sequence[Point]:
        """What the service's cost model would be seeded with."""

    @property
    def padding_free(self) -> bool:
        """Does a batch take what its useful tokens take?"""

    def seconds(self, size: int, tokens: int) -> float:
        """Of a batch of `size` requests with `tokens` in all, padded unless `padding_free`."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A batch, each request in it and each of its padded tokens take their time."""

    fixed: float
    each: float
    token: float
    source: str
    middle: int = MIDDLE
    padding_free: bool = False

    @property
    def points(self) -> Sequence[Point]:
        sizes = (1, 2, 4, 8, 16, 32)
        return [(n, n * length, self.seconds(n, n * length)) for n in sizes for length in (16, 128)]

    def seconds(self, size: int, tokens: int) -> float:
        return self.fixed + self.each * size + self.token * tokens


class Measured:
    """Between points that were measured: along the length first, then between two sizes.

    Beyond the last size or length the last slope goes on, but never below the nearest point.
    """

    def __init__(self, points: Sequence[Point], source: str, padding_free: bool = False) -> None:
        if not points:
            raise ValueError("no points")
        self.points = sorted(points)
        self.source = source
        self.padding_free = padding_free
        self._curves: dict[int, list[tuple[float, float]]] = {}  # by size: (length, seconds)
        for size, tokens, seconds in self.points:
            self._curves.setdefault(size, []).append((tokens / size, seconds))
        self._sizes = sorted(self._curves)
        lengths = sorted({round(length) for curve in self._curves.values() for length, _ in curve})
        self.middle = lengths[len(lengths) // 2]
        self.largest = self._sizes[-1]
        self.seconds = functools.cache(self._seconds)

    def _seconds(self, size: int, tokens: int) -> float:
        length = tokens / size
        at = [(float(n), _between(self._curves[n], length)) for n in self._around(size)]
        return _between(at, float(size))

    def _around(self, size: int) -> list[int]:
        """The two measured sizes next to this one; fewer if only one was."""
        place = bisect.bisect_left(self._sizes, size)
        first = min(max(0, place - 1), max(0, len(self._sizes) - 2))
        return self._sizes[first : first + 2]


def _between(curve: Sequence[tuple[float, float]], x: float) -> float:
    """On the broken line through a rising curve; straight on beyond its end, flat before it."""
    if len(curve) == 1 or x <= curve[0][0]:
        return curve[0][1]
    place = min(bisect.bisect_left(curve, (x, 0.0)), len(curve) - 1)
    (x0, y0), (x1, y1) = curve[place - 1], curve[place]
    slope = (y1 - y0) / (x1 - x0)
    return y1 + max(0.0, slope) * (x - x1) if x > x1 else y1 + slope * (x - x1)


class NoSpeed(Exception):
    """Nothing says how fast the model is; one line that says what to run first."""


def find_device(settings: Settings, by_hand: tuple[float, float, float] | None) -> Device:
    """From the flags, the simulated accelerator's settings, or the saved profile. NoSpeed."""
    if by_hand is not None:
        return Linear(*by_hand, source="given by hand")
    if settings.runner == "simulated":
        return Linear(
            settings.sim_fixed_ms / 1e3,
            settings.sim_per_item_ms / 1e3,
            settings.sim_per_token_us / 1e6,
            source="the simulated accelerator's settings",
        )
    saved = latest_profile(
        settings.cache_folder,
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        threads=0 if settings.threads == "auto" else settings.threads,
    )
    if saved is not None and settings.runner == "transformers":
        key = saved.key
        how = f"the profile saved on {key.device}, {key.backend} in {key.dtype}"
        return Measured(saved.points, how, key.padding_free)
    raise NoSpeed(
        f"no profile of {settings.model_id} is saved: run `batcher serve` once until it is"
        " ready (it measures the model and saves that in BATCHER_CACHE_DIR), or give --fixed-ms,"
        " --per-item-ms and --per-token-us"
    )
