"""Time for all of it. What no longer fits is left out, and said."""

import time
from collections.abc import Callable


class Budget:
    """Of `seconds` from now on."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._end = now, now() + seconds
        self.left_out: list[str] = []

    @property
    def left(self) -> float:
        return self._end - self._now()

    def allows(self, what: str, seconds: float) -> bool:
        """Whether something that takes about so long still fits."""
        if self.left >= seconds:
            return True
        self.left_out.append(f"{what}: about {seconds:.0f} s, {max(0.0, self.left):.0f} were left")
        print(f"left out: {self.left_out[-1]}", flush=True)
        return False
