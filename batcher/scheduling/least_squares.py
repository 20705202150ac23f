"""Fit: three weights, none below zero, learned from one weighted lesson after the other.

Least squares with directional forgetting (Kulhavy and Karny 1984): a lesson makes older ones fade
only in its own direction, so batches that are all alike do not wipe out what others have taught.
Knows no unit and no clock. Written out by hand: at three by three a loop costs more than the sums.
"""

from __future__ import annotations

Vector = tuple[float, float, float]

_KEPT = 0.9  # of what was known in the direction of a lesson: about the last ten like it count
_PRIOR = 1e-4  # how much the first guess of zero is believed
_ROUNDING = 1e-10  # what subtraction may have left of a direction that nobody has seen


class Fit:
    def __init__(self) -> None:
        self._free: Vector = (0.0, 0.0, 0.0)  # the best of all, negative ones included
        # The information matrix, by its upper triangle; positive definite.
        self._information = (_PRIOR, 0.0, 0.0, _PRIOR, 0.0, _PRIOR)
        self.weights: Vector = (0.0, 0.0, 0.0)  # the best of those that are not negative

    def look(self, x: Vector) -> tuple[Vector, float]:
        """Where a lesson at x would move the weights, and the doubt: how little is known of the
        answer there, as its variance in that of one lesson."""
        a, b, c = _solve(self._information, x)
        return (a, b, c), max(0.0, a * x[0] + b * x[1] + c * x[2])

    def learn(self, x: Vector, looked: tuple[Vector, float], error: float) -> None:
        """`looked`: what look(x) has just said; `error`: by how much the answer at x exceeds
        expect(x). O(1)."""
        (a, b, c), doubt = looked
        step = error / (1.0 + doubt)
        free = self._free
        self._free = (free[0] + a * step, free[1] + b * step, free[2] + c * step)
        # Below zero where x is known well already: then it forgets more than it learns.
        gained = max(_KEPT - (1.0 - _KEPT) / doubt, -0.5 / doubt) if doubt > 0.0 else 0.0
        self._inform(x, gained)
        self.weights = self._not_negative()

    def expect(self, x: Vector) -> float:
        """What the free fit says at x."""
        return self._free[0] * x[0] + self._free[1] * x[1] + self._free[2] * x[2]

    def rescale(self, ratio: float, believed: float) -> None:
        """All answers times `ratio`, and what is known counts `believed` times as much."""
        self._free = (self._free[0] * ratio, self._free[1] * ratio, self._free[2] * ratio)
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

    def start_from(self, lessons: list[tuple[Vector, float, float]]) -> None:
        """Forgets everything; then (x, answer, weight) for each lesson, all at once."""
        self._information = (_PRIOR, 0.0, 0.0, _PRIOR, 0.0, _PRIOR)
        sums = [0.0, 0.0, 0.0]
        for x, answer, weight in lessons:
            self._inform(x, weight)
            for place in range(3):
                sums[place] += weight * x[place] * answer
        self._free = _solve(self._information, (sums[0], sums[1], sums[2]))
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
        """Of all weights that are not negative those nearest to the free ones, by what is known.

        The best fit on some of the features, which are too few to go on looking: each subset once.
        """
        free = self._free
        if free[0] >= 0.0 and free[1] >= 0.0 and free[2] >= 0.0:
            return free
        r00, r01, r02, r11, r12, r22 = self._information
        a, b, c = free
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
