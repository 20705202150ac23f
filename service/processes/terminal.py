"""What goes to the terminal: the log to stderr, the banner to stdout."""

from __future__ import annotations

import logging
import os
import sys

_log = logging.getLogger("service")


def log_to_stderr(process: str = "") -> None:
    """`process`: who of several is speaking."""
    whose = f" {process}:" if process else ""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)-7s{whose} %(name)s: %(message)s",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its life is ours to tell


def say(text: str) -> None:
    """To stdout, whoever may have closed it: a service runs on without its banner."""
    try:
        print(text, flush=True)
    except (OSError, UnicodeError) as error:
        _log.warning("the banner cannot be printed: %s", in_one_line(error))
        # What is left in the buffer goes nowhere: Python's own flush at exit would fail on it.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def complain(problem: object) -> None:
    """The one line that a service says which cannot start."""
    print(f"batcher: {problem}", file=sys.stderr, flush=True)


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
