"""LeastSquares: three weights, none below zero, learned from one weighted sample after the other.

Least squares with directional forgetting (Kulhavy and Karny 1984): a sample makes older ones fade
only in its own direction, so batches that are all alike do not wipe out what others have taught.
Pure, and without units. Written out by hand: at three by three a loop costs more than the sums.
"""

from __future__ import annotations

Vector = tuple[float, float, float]

_KEPT = 0.9  # of what was known in the direction of a sample: about the last ten like it count
_PRIOR = 1e-4  # how much the first guess of zero is believed
_ROUNDING = 1e-10  # what subtraction may leave of a direction without samples


class LeastSquares:
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
        a, b, c = self._unconstrained
        return a * x[0] + b * x[1] + c * x[2]

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
        """The weights nearest to the unconstrained ones, by the information, of all not negative.

        The best fit on some of the features, which are too few to go on looking: each subset once.
        """
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
