"""Garbage collection, kept off the path of requests."""

from __future__ import annotations

import gc


def freeze() -> None:
    """Once all is there that lives for ever: no later collection need walk over it."""
    gc.collect()
    gc.freeze()
    # Requests make no cycles: what waits is no reason to collect before it is this much.
    gc.set_threshold(50_000)
