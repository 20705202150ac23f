"""CostModel: how long a batch takes, learned online from its size and padded tokens.

seconds = fixed + per_request * size + per_token * tokens, fitted by recursive least squares with
forgetting (Haykin, Adaptive Filter Theory, ch. 10). Knows no lock: the collector brings one.
"""

from __future__ import annotations

_FORGETTING = 0.98  # about the last fifty batches count
_PRIOR = 1e4  # how little the first guess of zero is believed
_SCALES = (1.0, 1 / 16, 1 / 512)  # brings the three features to about the same size


class CostModel:
    def __init__(self) -> None:
        self.observations = 0
        self._largest = (0, 0, 0.0)  # size and tokens of the one with the most, and its seconds
        self._weights = [0.0, 0.0, 0.0]
        self._spread = [[_PRIOR if row == col else 0.0 for col in range(3)] for row in range(3)]

    def predict(self, size: int, tokens: int) -> float:
        """Seconds; never negative; 0 before the first observation."""
        features = (_SCALES[0], size * _SCALES[1], tokens * _SCALES[2])
        return max(0.0, sum(w * x for w, x in zip(self._weights, features, strict=True)))

    def proportional(self, size: int, tokens: int) -> float:
        """Seconds, were time proportional to whichever has grown more since the largest batch
        observed; 0 before the first.

        An upper bound where a batch costs something whatever its size, for up to linear growth.
        """
        largest_size, largest_tokens, seconds = self._largest
        if not largest_size:
            return 0.0
        return seconds * max(1.0, size / largest_size, tokens / max(1, largest_tokens))

    def observe(self, size: int, tokens: int, seconds: float) -> None:
        """O(1): a 3x3 update."""
        x = (_SCALES[0], size * _SCALES[1], tokens * _SCALES[2])
        spread = self._spread
        px = [sum(row[i] * x[i] for i in range(3)) for row in spread]
        denominator = _FORGETTING + sum(x[i] * px[i] for i in range(3))
        gain = [value / denominator for value in px]
        error = seconds - sum(w * v for w, v in zip(self._weights, x, strict=True))
        self._weights = [w + g * error for w, g in zip(self._weights, gain, strict=True)]
        # Written so that it stays symmetric to the last bit: forgetting would blow up any rounding
        # that is not, by 0.98^-n, and the fit with it (Verhaegen 1989, Automatica 25(3)).
        reduced = [[spread[i][j] - px[i] * px[j] / denominator for j in range(3)] for i in range(3)]
        # Batches that are all alike teach nothing in two of three directions: forgetting there
        # would let the doubt grow without bound, and the next odd batch would throw the fit.
        forgets = all(reduced[i][i] <= _FORGETTING * _PRIOR for i in range(3))
        scale = 1.0 / _FORGETTING if forgets else 1.0
        self._spread = [[value * scale for value in row] for row in reduced]
        self.observations += 1
        if tokens >= self._largest[1]:
            self._largest = (size, tokens, seconds)

    def __repr__(self) -> str:
        fixed, per_request, per_token = (w * s for w, s in zip(self._weights, _SCALES, strict=True))
        return (
            f"<CostModel {fixed * 1e3:.2f} ms + {per_request * 1e3:.3f} ms/request"
            f" + {per_token * 1e6:.2f} us/token>"
        )

    # STUB until the real one lands
    @property
    def weights(self) -> tuple[float, float, float]:
        f, p, t = (max(0.0, w * s) for w, s in zip(self._weights, _SCALES, strict=True))
        return f, p, t

    def seed(self, points: object) -> None:
        for _ in range(3):
            for size, tokens, seconds in points:  # type: ignore
                self.observe(size, tokens, seconds)

    def token_budget(self) -> int:
        f, _, t = self.weights
        return int(19 * f / t) if t else 1 << 30
