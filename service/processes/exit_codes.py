"""How the service ends: the exit codes, for whoever started it."""

from __future__ import annotations

from service import arguments as flags

# UNANSWERED: asked to end, and did, but not all that it had accepted was answered in time.
OK, BAD_SETTING, NO_MODEL, NO_PORT, UNANSWERED, CRASHED = 0, flags.BAD_SETTING, 3, 4, 5, 70


class NoModel(Exception):
    """The model cannot be found or loaded. The text is one line."""
