"""Is it a numpy array? Asked so that an engine whose models know none need not import numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_array(value: Any) -> TypeGuard[NDArray[Any]]:
    kind = type(value)
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"
