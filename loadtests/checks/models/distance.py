"""How far an answer is from the reference's, and how far it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RTOL, ATOL = 1e-4, 1e-5
Numbers = NDArray[np.float64]


class Wrong(Exception):
    """The service answered, and not as the reference does."""


class ReferenceFails(Exception):
    """The reference cannot load or run this model."""


@dataclass
class Distance:
    """The largest of what was compared: absolute, and as a share of what is allowed."""

    absolute: float = 0.0
    share: float = 0.0
    where: str = ""

    def add(self, where: str, got: Any, expected: Any) -> None:
        """Raises Wrong."""
        ours, right = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        if ours.shape != right.shape:
            raise Wrong(f"{where}: shape {ours.shape}, not {right.shape}")
        apart = np.abs(ours - right)
        if not apart.size:
            return
        shares = apart / (ATOL + RTOL * np.abs(right))
        share = float(np.max(shares))
        if not share <= 1.0:
            place = np.unravel_index(int(np.argmax(shares)), apart.shape)
            raise Wrong(
                f"{where}: {apart[place]:.3g} apart at {[int(n) for n in place]}:"
                f" {ours[place]:.6g}, not {right[place]:.6g}"
            )
        self.absolute = max(self.absolute, float(apart.max()))
        if share >= self.share:
            self.share, self.where = share, where
