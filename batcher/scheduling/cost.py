"""CostModel: how long a batch takes, learned from its size and padded tokens.

seconds = fixed + per_request * size + per_token * tokens. It starts from the warm-up's profile,
where there is one, and follows the batches, by least squares: see LeastSquares. Errors count in
proportion to the time of the batch. Pure: no lock, no clock.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence

Vector = tuple[float, float, float]
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
_KEPT = 0.9  # of what was known in the direction of a sample: about the last ten like it count
_PRIOR = 1e-4  # how much the first guess of zero is believed
_ROUNDING = 1e-10  # what subtraction may leave of a direction without samples


class CostModel:
    def __init__(self) -> None:
        self.observations = 0  # batches and points of a profile
        self.margin = 0.0
        """A share of the prediction: 95 % of the batches end within (1 + margin) times it. 0 before
        it is known, which takes about ten batches."""
        self.weights: Vector = (0.0, 0.0, 0.0)
        """(fixed, per_request, per_token) in seconds, each at least 0. predict() uses them.
        Where the batches do not tell requests from tokens, they share the cost between them."""
        self._fit = LeastSquares()
        self.largest = (0, 0, 0.0)  # size and tokens of the batch with the most, and its seconds
        self._typical_error = _TYPICAL_ERROR  # as a share of the prediction
        self.outliers: list[float] = []  # observed / predicted; the latest in a row, on one side
        self._requests = self._tokens = 0.0  # of the profile, then of the latest twenty batches

    def predict(self, size: int, tokens: int) -> float:
        """Seconds; grows with both; never negative; 0 before the first observation."""
        fixed, per_request, per_token = self.weights
        return fixed + per_request * size + per_token * tokens

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
        self._weigh()
        self.observations = len(known)
        self.margin, self._typical_error, self.outliers = 0.0, _TYPICAL_ERROR, []
        self._requests = float(sum(size for size, _, _ in known))
        self._tokens = float(sum(tokens for _, tokens, _ in known))
        self.largest = max(known, key=lambda point: (point[1], point[0]))

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
            self.outliers.clear()
        elif self._has_changed(seconds / max(predicted, _SHORTEST)):
            return self.observe(size, tokens, seconds)
        bound = largest * _OUTLIER_CLIP
        fit.learn(x, gain, leverage, min(bound, max(-bound, error)))
        self._weigh()
        self.observations += 1
        self._requests = self._requests * (1.0 - _LEARNING_RATE) + size
        self._tokens = self._tokens * (1.0 - _LEARNING_RATE) + tokens
        if tokens >= self.largest[1]:
            self.largest = (size, tokens, seconds)
        if leverage <= _MAX_LEVERAGE:
            self._learn_noise((seconds - predicted) / max(predicted, _SHORTEST), bound)
        return None

    def _weigh(self) -> None:
        fixed, per_request, per_token = self._fit.weights
        self.weights = fixed * _SCALES[0], per_request * _SCALES[1], per_token * _SCALES[2]

    def _has_changed(self, ratio: float) -> bool:
        """Notes an outlier. After several in a row all predictions are scaled by their median: a
        device that slows down does so for every batch."""
        if self.outliers and (ratio > 1.0) != (self.outliers[-1] > 1.0):
            self.outliers.clear()
        self.outliers.append(ratio)
        if len(self.outliers) < _CHANGE_AFTER:
            return False
        self._fit.rescale(statistics.median(self.outliers), _TRUST_AFTER_CHANGE)
        self._weigh()
        self.outliers.clear()
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
    is_finite = all(isinstance(each, int | float) and math.isfinite(each) for each in point)
    return is_finite and len(point) == 3 and min(point[0], point[1]) >= 1 and point[2] > 0


class LeastSquares:
    """Three weights, none below zero, learned from one weighted sample after the other.

    With directional forgetting (Kulhavy and Karny 1984): a sample makes older ones fade only in its
    own direction, so batches that are all alike do not wipe out what others have taught. Written
    out by hand: at three by three a loop costs more than the sums.
    """

    def __init__(self) -> None:
        self._unconstrained: Vector = (0.0, 0.0, 0.0)  # the best of all, negative ones included
        # The information matrix, by its upper triangle; positive definite.
        self._information = (_PRIOR, 0.0, 0.0, _PRIOR, 0.0, _PRIOR)
        self.weights: Vector = (0.0, 0.0, 0.0)  # the best of those that are not negative

    def gain(self, x: Vector) -> tuple[Vector, float]:
        """The direction in which a sample at x would move the weights, and its leverage: the
        variance of the answer there, in units of the variance of one sample."""
        a, b, c = _solve(self._information, x)
        return (a, b, c), max(0.0, a * x[0] + b * x[1] + c * x[2])

    def learn(self, x: Vector, gain: Vector, leverage: float, error: float) -> None:
        """`gain` and `leverage`: of x, from gain(); `error`: by how much the answer at x exceeds
        expect(x). O(1)."""
        a, b, c = gain
        step = error / (1.0 + leverage)
        old = self._unconstrained
        self._unconstrained = (old[0] + a * step, old[1] + b * step, old[2] + c * step)
        # Negative where x is known well already: it then forgets more than it learns.
        weight = 0.0
        if leverage > 0.0:
            weight = max(_KEPT - (1.0 - _KEPT) / leverage, -0.5 / leverage)
        self._inform(x, weight)
        self.weights = self._not_negative()

    def expect(self, x: Vector) -> float:
        """The unconstrained prediction at x."""
        return _dot(self._unconstrained, x)

    def rescale(self, ratio: float, believed: float) -> None:
        """All answers times `ratio`, and what is known counts `believed` times as much."""
        a, b, c = self._unconstrained
        self._unconstrained = (a * ratio, b * ratio, c * ratio)
        share = believed / (ratio * ratio)
        r00, r01, r02, r11, r12, r22 = self._information
        self._information = (
            max(_PRIOR, r00 * share),
            r01 * share,
            r02 * share,
            max(_PRIOR, r11 * share),
            r12 * share,
            max(_PRIOR, r22 * share),
        )
        self.weights = self._not_negative()

    def start_from(self, samples: list[tuple[Vector, float, float]]) -> None:
        """Forgets everything; then (x, answer, weight) for each sample, all at once."""
        self._information = (_PRIOR, 0.0, 0.0, _PRIOR, 0.0, _PRIOR)
        sums = [0.0, 0.0, 0.0]
        for x, answer, weight in samples:
            self._inform(x, weight)
            for place in range(3):
                sums[place] += weight * x[place] * answer
        self._unconstrained = _solve(self._information, (sums[0], sums[1], sums[2]))
        self.weights = self._not_negative()

    def _inform(self, x: Vector, weight: float) -> None:
        r00, r01, r02, r11, r12, r22 = self._information
        a, b, c = x
        self._information = (
            r00 + weight * a * a,
            r01 + weight * a * b,
            r02 + weight * a * c,
            r11 + weight * b * b,
            r12 + weight * b * c,
            r22 + weight * c * c,
        )

    def _not_negative(self) -> Vector:
        """The weights nearest to the unconstrained ones, by the information, of all not negative:
        the best fit on some of the features. Each subset is tried."""
        a, b, c = self._unconstrained
        if a >= 0.0 and b >= 0.0 and c >= 0.0:
            return self._unconstrained
        r00, r01, r02, r11, r12, r22 = self._information
        q0 = r00 * a + r01 * b + r02 * c
        q1 = r01 * a + r11 * b + r12 * c
        q2 = r02 * a + r12 * b + r22 * c
        best, gained = (0.0, 0.0, 0.0), 0.0
        for i, j, rii, rij, rjj, qi, qj in (
            (0, 1, r00, r01, r11, q0, q1),
            (0, 2, r00, r02, r22, q0, q2),
            (1, 2, r11, r12, r22, q1, q2),
        ):
            determinant = rii * rjj - rij * rij
            if determinant > _ROUNDING * rii * rjj:
                u = (rjj * qi - rij * qj) / determinant
                v = (rii * qj - rij * qi) / determinant
                gain = u * qi + v * qj
                if u >= 0.0 and v >= 0.0 and gain > gained:
                    best, gained = _at(i, u, j, v), gain
        for i, rii, qi in ((0, r00, q0), (1, r11, q1), (2, r22, q2)):
            if qi > 0.0 and qi * qi / rii > gained:
                best, gained = _at(i, qi / rii, i, qi / rii), qi * qi / rii
        return best


def _at(i: int, u: float, j: int, v: float) -> Vector:
    weights = [0.0, 0.0, 0.0]
    weights[i] = u
    weights[j] = v
    return (weights[0], weights[1], weights[2])


def _solve(information: tuple[float, ...], x: Vector) -> Vector:
    """information^-1 x, by Cholesky."""
    r00, r01, r02, r11, r12, r22 = information
    l10 = r01 / r00
    l20 = r02 / r00
    d1 = max(r11 - l10 * r01, _ROUNDING * r11)
    l21 = (r12 - l20 * r01) / d1
    d2 = max(r22 - l20 * r02 - l21 * l21 * d1, _ROUNDING * r22)
    y0, y1 = x[0], x[1] - l10 * x[0]
    c = (x[2] - l20 * y0 - l21 * y1) / d2
    b = y1 / d1 - l21 * c
    return y0 / r00 - l10 * b - l20 * c, b, c
