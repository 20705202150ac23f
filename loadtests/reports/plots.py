"""The library that draws the plots: it is asked for before the work, not after it."""

import importlib.util

from service.errors import how_to_install


def check_matplotlib() -> None:
    """Raises RuntimeError that says what to install. Costs nothing: it is found, not imported."""
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError(f"the plot needs matplotlib: {how_to_install('loadtest')}")
