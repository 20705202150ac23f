"""CostModel: how long a batch takes, learned from its size and padded tokens.

seconds = fixed + per_request * size + per_token * tokens. It starts from the warm-up's profile,
where there is one, and follows the batches. Errors count in proportion to the time of the batch.
Knows no lock: whoever holds it brings one.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence

from batcher.scheduling.least_squares import Fit, Vector

Point = Sequence[float]  # size, padded tokens, seconds

_SCALES = (1.0, 1 / 16, 1 / 512)  # brings the three features to about the same size
_SHORTEST = 1e-4  # seconds; differences below are the clock's
_ODD = 2.0  # times the usual error, and
_NOTABLE = 0.1  # this share of the prediction at the least: then a batch is odd
_CUT = 2.0  # times what makes a batch odd: there the error is cut off
_LASTING = 5  # odd batches in a row are no accident: the device has changed
_DOUBT_AFTER = 0.2  # what is known is then worth this share of what it was
_USUAL = 0.1  # the first guess of the usual error, as a share of the prediction
_RATE = 0.05  # how fast the usual error is learned
_WITHIN = 0.95  # of all batches end within the margin
_KNOWN = 2.0  # doubt up to which an error says something of the noise
_REPEATS = 8  # times the points of a profile are weighed anew
_EFFICIENT = 0.95  # share of a batch's time that grows with what is in it


class CostModel:
    def __init__(self) -> None:
        self.observations = 0  # batches and points of a profile
        self.margin = 0.0
        """A share of the prediction: 95 % of the batches end within (1 + margin) times it. 0 before
        it is known, which takes about ten batches."""
        self._fit = Fit()
        self._largest = (0, 0, 0.0)  # size and tokens of the one with the most, and its seconds
        self._usual = _USUAL  # mean error, as a share of the prediction
        self._odd_ones: list[float] = []  # observed / predicted; the latest in a row, on one side
        self._requests = self._tokens = 0.0  # of the profile, then of the latest twenty batches

    @property
    def weights(self) -> tuple[float, float, float]:
        """(fixed, per_request, per_token) in seconds; none is negative. What predict() goes by.

        Where the batches do not tell requests from tokens, they share the cost between them.
        """
        fixed, per_request, per_token = self._fit.weights
        return fixed * _SCALES[0], per_request * _SCALES[1], per_token * _SCALES[2]

    def predict(self, size: int, tokens: int) -> float:
        """Seconds; grows with both; never negative; 0 before the first observation."""
        fixed, per_request, per_token = self._fit.weights
        return fixed + per_request * size * _SCALES[1] + per_token * tokens * _SCALES[2]

    def proportional(self, size: int, tokens: int) -> float:
        """Seconds, were time proportional to whichever has grown more since the largest batch
        observed; 0 before the first.

        An upper bound where a batch costs something whatever its size, for up to linear growth.
        """
        largest_size, largest_tokens, seconds = self._largest
        if not largest_size:
            return 0.0
        return seconds * max(1.0, size / largest_size, tokens / max(1, largest_tokens))

    def token_budget(self) -> int:
        """Padded tokens at which 95 % of a batch's time grows with what is in it; at least 1.

        Requests are taken to have as many tokens as those of the profile, or since then of the
        latest batches. sys.maxsize, for the caller to cap, where no size is enough or nothing
        is known.
        """
        fixed, per_request, per_token = self.weights
        if self._tokens:
            per_token += per_request * self._requests / self._tokens
        wanted = fixed * _EFFICIENT / (1.0 - _EFFICIENT)
        if not self.observations or wanted >= per_token * sys.maxsize:
            return sys.maxsize
        return max(1, round(wanted / per_token))

    def seed(self, points: Sequence[Point]) -> None:
        """Starts over from a profile: (size, padded tokens, seconds) each.

        A point that took far too long counts for little. One that makes no sense is left out; if
        none is left, nothing changes.
        """
        known = [(int(p[0]), int(p[1]), float(p[2])) for p in points if _makes_sense(p)]
        if not known:
            return
        # By its own time: so one that took far too long is a small matter from the start.
        lessons = [_lesson(*point) for point in known]
        self._fit, trust = Fit(), [1.0] * len(known)
        for _ in range(_REPEATS):
            self._fit.start_from(
                [(x, answer, weight) for (x, answer), weight in zip(lessons, trust, strict=True)]
            )
            errors = [abs(answer - _dot(self._fit.weights, x)) for x, answer in lessons]
            usual = max(1e-3, statistics.median(errors))
            # An error beyond the median one counts by its sign, not by its size (Huber).
            trust = [min(1.0, usual / max(1e-9, error)) for error in errors]
        self.observations = len(known)
        self.margin, self._usual, self._odd_ones = 0.0, _USUAL, []
        self._requests = float(sum(size for size, _, _ in known))
        self._tokens = float(sum(tokens for _, tokens, _ in known))
        self._largest = max(known, key=lambda point: (point[1], point[0]))

    def observe(self, size: int, tokens: int, seconds: float) -> None:
        """O(1). A batch out of line hardly counts; from the fifth in a row on it is the rule."""
        fit, predicted = self._fit, self.predict(size, tokens)
        # In proportion to the prediction, or where that is far too low, to what was observed.
        unit = max(predicted, seconds / 2, _SHORTEST)
        x = _features(size, tokens, unit)
        looked = fit.look(x)
        error, doubt = seconds / unit - fit.expect(x), looked[1]
        odd = max(_NOTABLE, _ODD * self._usual) * math.sqrt(1.0 + doubt)
        if abs(error) <= odd:
            self._odd_ones.clear()
        elif self._has_changed(seconds / max(predicted, _SHORTEST)):
            return self.observe(size, tokens, seconds)
        bound = odd * _CUT
        fit.learn(x, looked, min(bound, max(-bound, error)))
        self.observations += 1
        self._requests = self._requests * (1.0 - _RATE) + size
        self._tokens = self._tokens * (1.0 - _RATE) + tokens
        if tokens >= self._largest[1]:
            self._largest = (size, tokens, seconds)
        if doubt <= _KNOWN:
            self._learn_noise((seconds - predicted) / max(predicted, _SHORTEST), bound)
        return None

    def _has_changed(self, ratio: float) -> bool:
        """Takes note of an odd batch. If they last, everything is taken to have changed as they
        did: a device that slows down does so for every batch."""
        if self._odd_ones and (ratio > 1.0) != (self._odd_ones[-1] > 1.0):
            self._odd_ones.clear()
        self._odd_ones.append(ratio)
        if len(self._odd_ones) < _LASTING:
            return False
        self._fit.rescale(statistics.median(self._odd_ones), _DOUBT_AFTER)
        self._odd_ones.clear()
        return True

    def _learn_noise(self, error: float, bound: float) -> None:
        self._usual += _RATE * (min(abs(error), bound) - self._usual)
        # Stochastic approximation (Robbins and Monro 1951): it rests where 95 % lie below. A step
        # goes by the usual error, so that one wild error moves it no further than any other.
        step = self._usual / 2
        self.margin += step * (_WITHIN if error > self.margin else _WITHIN - 1.0)
        self.margin = max(0.0, self.margin)

    def __repr__(self) -> str:
        fixed, per_request, per_token = self.weights
        return (
            f"<CostModel {fixed * 1e3:.2f} ms + {per_request * 1e3:.3f} ms/request"
            f" + {per_token * 1e6:.2f} us/token>"
        )


def _features(size: int, tokens: int, unit: float) -> Vector:
    return _SCALES[0] / unit, size * _SCALES[1] / unit, tokens * _SCALES[2] / unit


def _lesson(size: int, tokens: int, seconds: float) -> tuple[Vector, float]:
    unit = max(seconds, _SHORTEST)
    return _features(size, tokens, unit), seconds / unit


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _makes_sense(point: Point) -> bool:
    return (
        len(point) == 3
        and all(isinstance(value, int | float) and math.isfinite(value) for value in point)
        and min(point[0], point[1]) >= 1
        and point[2] > 0
    )
