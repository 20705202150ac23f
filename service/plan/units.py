"""Figures as people read them."""

from __future__ import annotations

import math


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1.0 else seconds_of(seconds)


def seconds_of(seconds: float) -> str:
    return f"{seconds:,.3g} s" if math.isfinite(seconds) else "without end"


def a_second(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def replicas_of(count: int) -> str:
    return f"{count:,} replica" if count == 1 else f"{count:,} replicas"
