"""How the service ends: the exit codes, for whoever started it."""

from __future__ import annotations

from service import flags

OK, BAD_SETTING, NO_MODEL, NO_PORT, CRASHED = 0, flags.BAD_SETTING, 3, 4, 70


class NoModel(Exception):
    """The model cannot be found or loaded. The text is one line."""
