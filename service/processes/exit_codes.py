"""How the service ends: the exit codes, for the program that started it."""

from __future__ import annotations

# BAD_SETTING is argparse's own. UNANSWERED: it was asked to end, and did, but not all that it had
# accepted was answered in time.
OK, BAD_SETTING, NO_MODEL, NO_PORT, UNANSWERED, CRASHED = 0, 2, 3, 4, 5, 70
