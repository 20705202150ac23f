"""The knobs, validated at birth. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    max_batch_size: int = 64  # requests in one forward pass; 1 switches batching off
    # Padded tokens in one forward pass; a longer input runs alone. None: as many as the device
    # was measured to need to be efficient, at most 16,384.
    max_batch_tokens: int | None = None
    max_wait: float = 0.0  # how long a request may hold a free replica, counted from its arrival
    max_queue_size: int = 4096  # waiting requests
    max_queue_tokens: int = 2_097_152  # tokens of the waiting requests
    hang_after: float = 5.0  # a batch is given this long, or 10 times its predicted time if longer
    hang_by_deadline: bool = False  # or as long as its callers have, if that is longer still
    share_equal: bool = True  # equal inputs in flight are run once
    cache_bytes: int = 0  # memory for finished answers; 0: none is kept

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_batch_tokens", "max_queue_size", "max_queue_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 <= self.max_wait < float("inf"):
            raise ValueError(f"max_wait must be 0 or more seconds, not {self.max_wait}")
        if not 0.0 < self.hang_after < float("inf"):
            raise ValueError(f"hang_after must be more than 0 seconds, not {self.hang_after}")
        if self.cache_bytes < 0:
            raise ValueError(f"cache_bytes must be 0 or more, not {self.cache_bytes}")
