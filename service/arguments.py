"""The command line and the environment into Settings, and Settings into text.

There is a flag for every setting, and three that print something and leave.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from batcher.scheduling.replica_model import MOST_TOKENS
from service.processes.exit_codes import BAD_SETTING
from service.settings import PREFIX, BadSetting, Settings
from service.version import version

_NOT_OURS = ("BATCHER_LOADTEST_",)  # the load tests read these
# What it means where there is no value.
_UNSET = {
    "max_batch_tokens": f"learned from the device's profile, at most {MOST_TOKENS}",
    "min_cosine": "0.999 for bfloat16 and float16, 0.98 for int8",
    "target_latency_ms": "none but BATCHER_REQUEST_TIMEOUT_MS",
    "cache_dir": "batcher in $XDG_CACHE_HOME, else in ~/.cache",
    "replicas": "1 for each device",
}
_SECRET = ("KEY", "TOKEN", "SECRET")  # in a misspelt name: its value is shown to nobody


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
        default = default_of(name)
        told = f" (default: {default})" if default else ""
        help_text = f"{field.description}{told}".replace("%", "%%")
        made.add_argument(
            flag(name), dest=name, help=help_text, metavar="X", default=argparse.SUPPRESS
        )


def load(flags: Mapping[str, str]) -> Settings:
    """`flags` by field name, as typed. Raises BadSetting."""
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or name.startswith(_NOT_OURS):
            continue
        if name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            hidden = any(word in name for word in _SECRET)
            value = "(hidden)" if hidden else repr(os.environ[variable])
            raise BadSetting(
                f"{variable}={value}: there is no such setting (--help lists them all)"
            )
    try:
        return Settings(**flags)  # type: ignore[arg-type]  # text, as in the environment
    except ValidationError as error:
        raise BadSetting(_describe(error, flags)) from None


def origin(settings: Settings, name: str, flags: Mapping[str, str]) -> str:
    if name in flags:
        return "flag"
    return "environment" if name in settings.model_fields_set else "default"


def effective(settings: Settings, flags: Mapping[str, str]) -> list[str]:
    """`BATCHER_PORT=8000 (default)`, one line a setting, secrets redacted. What is unset says what
    that means."""
    lines = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        whence = origin(settings, name, flags)
        if value is None and name in _UNSET:
            whence += f": {_UNSET[name]}"
        lines.append(f"{PREFIX}{name.upper()}={_written(value)} ({whence})")
    return lines


def default_of(name: str) -> str:
    """As it would be written, or what it means to leave it unset; empty: nothing."""
    return _UNSET.get(name, "") or _written(Settings.model_fields[name].default)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _describe(error: ValidationError, flags: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    where = flag(name) if name in flags else PREFIX + name.upper()
    value: Any = "(hidden)" if name == "api_key" else repr(first["input"])
    about = Settings.model_fields[name].description
    rules = dict.fromkeys(
        "no such value" if item["type"] == "string_pattern_mismatch" else item["msg"]
        for item in error.errors(include_url=False)
        if item["loc"][0] == name
    )
    return f"{where}={value}: {'; or '.join(rules)} ({about})"
