"""The command line: a flag for every setting, and three that print something and leave."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from service import settings as table
from service.processes.exit_codes import BAD_SETTING
from service.settings import Settings
from service.version import version


def _names_only(found: re.Match[str]) -> str:
    words = found[0].removeprefix(found[1]).split()
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    return f"{found[1]} {' '.join(names) or '(a value without a flag)'}"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # It quotes what was typed, and behind a misspelt name that may be a key.
        message = re.sub(r"(unrecognized arguments:) .*", _names_only, message, flags=re.DOTALL)
        self.exit(BAD_SETTING, f"batcher: {message} (--help lists all flags)\n")


def parser() -> Parser:
    made = Parser(
        prog="python -m service",
        description="An inference service that batches requests.",
        epilog="Each is also an environment variable: --max-batch-size is BATCHER_MAX_BATCH_SIZE."
        " Flags win.",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"batcher {version()}")
    made.add_argument(
        "--print-config", action="store_true", help="print the effective settings and leave"
    )
    add_settings(made)
    return made


def add_settings(made: argparse._ActionsContainer) -> None:
    """A flag for every setting; what is not typed is not in the result."""
    for name, field in Settings.model_fields.items():
        default = table.default_of(name)
        told = f" (default: {default})" if default else ""
        help_text = f"{field.description}{told}".replace("%", "%%")
        made.add_argument(
            table.flag(name), dest=name, help=help_text, metavar="X", default=argparse.SUPPRESS
        )
