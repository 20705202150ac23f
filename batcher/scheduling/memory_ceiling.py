"""MemoryCeiling: how large a batch may be before the device runs out of memory. Learned from
failures. Pure: no lock, no clock."""

from __future__ import annotations

_INF = float("inf")
_TRUST = 600.0  # seconds without a failure before twice as much is tried again
_MAX_TRUST = 86_400.0


class MemoryCeiling:
    """A batch is allowed if its requests or its padded tokens are within what was safe.

    One bound each, because it is not known which of the two it was. Each failure lowers the bounds
    that had let the batch through.
    """

    def __init__(self) -> None:
        self.size = _INF
        self.tokens = _INF
        self._changed_at = 0.0  # by a failure, or by a try
        self._is_trying = False  # the last change was a try
        self._trust = _TRUST

    def allows(self, size: int, tokens: int) -> bool:
        return size <= self.size or tokens <= self.tokens

    def failed(self, size: int, tokens: int, now: float) -> None:
        """A batch of more than one request was too large."""
        is_within_size, is_within_tokens = size <= self.size, tokens <= self.tokens
        if is_within_size:
            self.size = (size + 1) // 2  # the larger half: it will be seen at once if that fits
        if is_within_tokens:
            self.tokens = (tokens + 1) // 2
        if self._is_trying:
            self._trust = min(2 * self._trust, _MAX_TRUST)
        self._changed_at, self._is_trying = now, False

    def relax(self, now: float) -> None:
        """Long after the last failure more is tried: another user of the memory may have gone.

        If that fails too, it is twice as long until the next try.
        """
        if self.tokens < _INF and now - self._changed_at >= self._trust:
            self.size, self.tokens = self.size * 2, self.tokens * 2
            self._changed_at, self._is_trying = now, True

    def __repr__(self) -> str:
        return f"<MemoryCeiling {self.size:.0f} requests or {self.tokens:.0f} tokens>"
