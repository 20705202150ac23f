"""CostModel: how long a batch takes, learned from its size and padded tokens.

seconds = fixed + per_request * size + per_token * tokens. It starts from the warm-up's profile,
where there is one, and follows the batches. Errors count in proportion to the time of the batch.
Pure: no lock, no clock.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence

from batcher.scheduling.least_squares import LeastSquares, Vector

Point = Sequence[float]  # size, padded tokens, seconds

_SCALES = (1.0, 1 / 16, 1 / 512)  # brings the three features to about the same size
_SHORTEST = 1e-4  # seconds; differences below are the clock's
_OUTLIER_ERRORS = 2.0  # an outlier is off by more than this many typical errors
_OUTLIER_MIN = 0.1  # and by more than this share of the prediction
_OUTLIER_CLIP = 2.0  # the error of an outlier is clipped at this many times that bound
_CHANGE_AFTER = 5  # outliers in a row mean that the replica has changed
_TRUST_AFTER_CHANGE = 0.2  # old observations then weigh this share of what they did
_TYPICAL_ERROR = 0.1  # the first guess, as a share of the prediction
_LEARNING_RATE = 0.05  # of the typical error
_MARGIN_QUANTILE = 0.95  # of all batches end within the margin
_MAX_LEVERAGE = 2.0  # up to which an error says something about the noise
_REWEIGHTINGS = 8  # of the points of a profile
_EFFICIENT = 0.95  # share of a batch's time that grows with what is in it


class CostModel:
    def __init__(self) -> None:
        self.observations = 0  # batches and points of a profile
        self.margin = 0.0
        """A share of the prediction: 95 % of the batches end within (1 + margin) times it. 0 before
        it is known, which takes about ten batches."""
        self._fit = LeastSquares()
        self._largest = (0, 0, 0.0)  # size and tokens of the one with the most, and its seconds
        self._typical_error = _TYPICAL_ERROR  # as a share of the prediction
        self._outliers: list[float] = []  # observed / predicted; the latest in a row, on one side
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
        # In proportion to its own time, so that a point that took far too long counts for little.
        samples = [_sample(*point) for point in known]
        self._fit, trust = LeastSquares(), [1.0] * len(known)
        for _ in range(_REWEIGHTINGS):
            self._fit.start_from(
                [(x, answer, weight) for (x, answer), weight in zip(samples, trust, strict=True)]
            )
            errors = [abs(answer - _dot(self._fit.weights, x)) for x, answer in samples]
            typical = max(1e-3, statistics.median(errors))
            # An error beyond the median one counts by its sign, not by its size (Huber).
            trust = [min(1.0, typical / max(1e-9, error)) for error in errors]
        self.observations = len(known)
        self.margin, self._typical_error, self._outliers = 0.0, _TYPICAL_ERROR, []
        self._requests = float(sum(size for size, _, _ in known))
        self._tokens = float(sum(tokens for _, tokens, _ in known))
        self._largest = max(known, key=lambda point: (point[1], point[0]))

    def observe(self, size: int, tokens: int, seconds: float) -> None:
        """O(1). An outlier hardly counts; five in a row mean that the replica has changed."""
        fit, predicted = self._fit, self.predict(size, tokens)
        # In proportion to the prediction, or where that is far too low, to what was observed.
        unit = max(predicted, seconds / 2, _SHORTEST)
        x = _features(size, tokens, unit)
        gain, leverage = fit.gain(x)
        error = seconds / unit - fit.expect(x)
        largest = max(_OUTLIER_MIN, _OUTLIER_ERRORS * self._typical_error)
        largest *= math.sqrt(1.0 + leverage)
        if abs(error) <= largest:
            self._outliers.clear()
        elif self._has_changed(seconds / max(predicted, _SHORTEST)):
            return self.observe(size, tokens, seconds)
        bound = largest * _OUTLIER_CLIP
        fit.learn(x, gain, leverage, min(bound, max(-bound, error)))
        self.observations += 1
        self._requests = self._requests * (1.0 - _LEARNING_RATE) + size
        self._tokens = self._tokens * (1.0 - _LEARNING_RATE) + tokens
        if tokens >= self._largest[1]:
            self._largest = (size, tokens, seconds)
        if leverage <= _MAX_LEVERAGE:
            self._learn_noise((seconds - predicted) / max(predicted, _SHORTEST), bound)
        return None

    def _has_changed(self, ratio: float) -> bool:
        """Notes an outlier. After several in a row all predictions are scaled by their median: a
        device that slows down does so for every batch."""
        if self._outliers and (ratio > 1.0) != (self._outliers[-1] > 1.0):
            self._outliers.clear()
        self._outliers.append(ratio)
        if len(self._outliers) < _CHANGE_AFTER:
            return False
        self._fit.rescale(statistics.median(self._outliers), _TRUST_AFTER_CHANGE)
        self._outliers.clear()
        return True

    def _learn_noise(self, error: float, bound: float) -> None:
        self._typical_error += _LEARNING_RATE * (min(abs(error), bound) - self._typical_error)
        # Stochastic approximation (Robbins and Monro 1951): it rests where 95 % lie below. A step
        # is sized by the typical error, so that a wild error moves it no further than any other.
        step = self._typical_error / 2
        self.margin += step * (_MARGIN_QUANTILE if error > self.margin else _MARGIN_QUANTILE - 1.0)
        self.margin = max(0.0, self.margin)

    def __repr__(self) -> str:
        fixed, per_request, per_token = self.weights
        return (
            f"<CostModel {fixed * 1e3:.2f} ms + {per_request * 1e3:.3f} ms/request"
            f" + {per_token * 1e6:.2f} us/token>"
        )


def _features(size: int, tokens: int, unit: float) -> Vector:
    return _SCALES[0] / unit, size * _SCALES[1] / unit, tokens * _SCALES[2] / unit


def _sample(size: int, tokens: int, seconds: float) -> tuple[Vector, float]:
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
