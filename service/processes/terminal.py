"""What goes to the terminal beside the log: the banner on stdout, the last line on stderr."""

from __future__ import annotations

import logging
import os
import sys

from service.observability.logs import is_json

_log = logging.getLogger("service")


def print_banner(text: str) -> None:
    """A closed stdout is no failure: the service runs on without its banner."""
    if is_json():  # for a program, not for a person
        return
    try:
        print(text, flush=True)
    except (OSError, UnicodeError) as error:
        _log.warning("the banner cannot be printed: %s", one_line(error))
        _discard_stdout()


def print_page(text: str) -> None:
    """Its reader may stop early, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard_stdout()


def _discard_stdout() -> None:
    # What is left in the buffer goes nowhere: Python's own flush at exit would fail on it.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_error(problem: object) -> None:
    """Why the service cannot start, in one line."""
    if is_json():
        _log.critical("%s", problem)
    else:
        print(f"batcher: {problem}", file=sys.stderr, flush=True)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
