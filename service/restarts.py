"""When is a process that has died started again, and when is that given up? Pure: time is handed
in."""

from __future__ import annotations

_FIRST, _MOST = 0.1, 5.0  # seconds between a death and the next start
_SOUND = 10.0  # seconds up: what it dies of then has nothing to do with its start
_IN_VAIN = 5  # starts in a row that never came up: the sixth would not either


class Restarts:
    def __init__(self) -> None:
        self._up_since: float | None = None
        self._quick = 0  # deaths in a row, each soon after it came up or before
        self._in_vain = 0  # starts in a row that never came up

    def came_up(self, now: float) -> None:
        self._up_since = now
        self._in_vain = 0

    def died(self, now: float) -> float | None:
        """Seconds to wait before it is started again; None: no more."""
        if self._up_since is None:
            self._in_vain += 1
            self._quick += 1
        elif now - self._up_since < _SOUND:
            self._quick += 1
        else:
            self._quick = 0
        self._up_since = None
        if self._in_vain >= _IN_VAIN:
            return None
        # Ten doublings are more than enough, and a thousand would be more than a float can hold.
        doublings = min(self._quick - 2, 10)
        return min(_MOST, _FIRST * 2**doublings) if self._quick > 1 else 0.0
