"""How severe is a line that a worker prints? Tracebacks are errors, all else is information."""

from __future__ import annotations

_BEGINS = "Traceback (most recent call last):"
# Between two tracebacks; from the interpreter itself.
_ALONE = (
    "During handling of the above exception",
    "The above exception was the direct cause",
    "Exception in thread",
    "Fatal Python error",
)


class ErrorLines:
    """Reads the lines of one worker in order."""

    def __init__(self) -> None:
        self._in_traceback = False

    def is_error(self, line: str) -> bool:
        if _BEGINS in line:
            self._in_traceback = True
            return True
        if self._in_traceback:  # its lines are indented; the first that is not ends it
            is_last_of_group = bool(line.strip()) and not line.strip(" +-")
            self._in_traceback = line[:1] == " " and not is_last_of_group
            return True
        return line.startswith(_ALONE)
