"""The command line and the environment into Settings, and Settings into text.

There is a flag for every setting, and three that print something and exit.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from batcher.scheduling.replica_model import MOST_TOKENS
from service.environment import EMPTY_IS_A_VALUE, PREFIX, links_in, unknown_in
from service.processes.exit_codes import BAD_SETTING
from service.settings import HANG_AFTER_MS, REPLACED, BadSetting, Settings
from service.version import VERSION

# The effect of a setting that has no value.
_UNSET = {
    "max_batch_tokens": f"learned from the device's profile, at most {MOST_TOKENS}",
    "min_cosine": "0.999 for bfloat16 and float16, 0.98 for int8",
    "hang_after_ms": f"{HANG_AFTER_MS:g}; with a runner of your own also as long as the requests"
    " have until their deadline, half of that for a batch of several",
    "cache_dir": "batcher in $XDG_CACHE_HOME, otherwise in ~/.cache",
    "replicas": "1 for each device",
}
# Errors with a text that is a whole clause.
_OURS = ("empty", "space", "printable", "home", "clause", "prompts")
_OWN_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# In a misspelt name: its value is not shown.
_SECRET = ("KEY", "TOKEN", "SECRET", "PASS", "AUTH", "BEARER", "CRED")
_MOST_LINKS = 4  # that are listed
_EMPTY_KEY = (
    "BATCHER_API_KEY is set but empty, and an empty key would let everybody in: give it a value, or"
    " unset it to serve without a key (in a compose file ${KEY:-} gives an empty one, and ${KEY:?}"
    " stops if KEY is missing)"
)


def _names_only(found: re.Match[str]) -> str:
    words = found[0].removeprefix(found[1]).split()
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    return f"{found[1]} {' '.join(names) or '(a value without a flag)'}"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The message quotes the arguments; after a misspelt name there may be a key.
        message = re.sub(r"(unrecognized arguments:) .*", _names_only, message, flags=re.DOTALL)
        self.exit(BAD_SETTING, f"batcher: {message} (--help lists all flags)\n")


def parser() -> Parser:
    made = Parser(
        prog="batcher serve",
        usage="%(prog)s [MODEL | MODULE:NAME] [--SETTING VALUE ...]",
        description="Serves a model over HTTP and runs concurrent requests in batches.",
        epilog="Every setting is also an environment variable: --max-batch-size is"
        " BATCHER_MAX_BATCH_SIZE. A flag overrides its variable. MODEL is short for --model MODEL,"
        " MODULE:NAME (code of your own) for --runner MODULE:NAME.",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"batcher {VERSION}")
    made.add_argument(
        "--print-config", action="store_true", help="print all settings with their origin, and exit"
    )
    add_settings(made)
    return made


def add_settings(made: argparse._ActionsContainer) -> None:
    """A flag for every setting; what is not typed is not in the result."""
    for name, field in Settings.model_fields.items():
        default = default_of(name)
        suffix = f" (default: {default})" if default else ""
        help_text = f"{field.description}{suffix}".replace("%", "%%")
        made.add_argument(
            flag(name),
            dest=name,
            help=argparse.SUPPRESS if name in REPLACED else help_text,
            metavar="X",
            default=argparse.SUPPRESS,
        )


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """As argparse does; a first argument that is no flag is what to serve: a model, as --model, or
    code of the user's own, as --runner. Only the first: a stray value may be a key."""
    named, rest = arguments[:1], arguments[1:]
    if not named or named[0].startswith("-"):
        named, rest = (), arguments
    options = vars(parser().parse_args(rest))
    for served in named:
        name = "runner" if _OWN_CODE.fullmatch(served) else "model"
        if name in options:
            parser().error(f"{flag(name)} is given, and {served!r} beside it: name one of the two")
        options[name] = served
    return options


def load(flags: Mapping[str, str]) -> Settings:
    """`flags` by field name, as typed; an empty one counts as unset. Raises BadSetting."""
    for variable in unknown_in(os.environ, Settings.model_fields):
        hidden = any(word in variable.upper() for word in _SECRET)
        value = "(hidden)" if hidden else repr(os.environ[variable])
        raise BadSetting(f"{variable}={value}: there is no such setting (--help lists them all)")
    typed = {name: value for name, value in flags.items() if value or name in EMPTY_IS_A_VALUE}
    try:
        return Settings(**typed)  # type: ignore[arg-type]  # text, as in the environment
    except ValidationError as error:
        raise BadSetting(_describe(error, flags)) from None


def warnings_of(settings: Settings) -> list[str]:
    """What the operator should know of the given settings, one line each."""
    lines = [
        f"{PREFIX}{old.upper()} is deprecated and will be removed in the next release: use"
        f" {PREFIX}{new.upper()}"
        for old, new in REPLACED.items()
        if old in settings.model_fields_set
    ]
    lines += settings.unused()
    if settings.cache_dir == "":
        lines.append(
            f"an empty {PREFIX}CACHE_DIR will mean unset in the next release: write off to save"
            " nothing"
        )
    elif settings.cache_dir is None and not settings.cache_folder:
        lines.append(
            "this user has no home folder, so nothing is saved for the next start: set"
            f" {PREFIX}CACHE_DIR to a folder, or to off"
        )
    if links := links_in(os.environ):
        links.sort(key=lambda name: name != f"{PREFIX}PORT")
        shown = ", ".join(links[:_MOST_LINKS])
        more = f" and {len(links) - _MOST_LINKS} more" if len(links) > _MOST_LINKS else ""
        lines.append(
            "variables that Kubernetes or Docker set for a service named batcher are not settings"
            f" and are ignored: {shown}{more}"
        )
    return lines


def changed(settings: Settings, flags: Mapping[str, str]) -> list[str]:
    """`BATCHER_PORT=80 (flag)`, one for each setting that is not at its default."""
    return [
        line
        for name, line in zip(_listed(settings), effective(settings, flags), strict=True)
        if getattr(settings, name) != Settings.model_fields[name].default
    ]


def origin(settings: Settings, name: str, flags: Mapping[str, str]) -> str:
    if name in flags:
        return "flag"
    return "environment" if name in settings.model_fields_set else "default"


def effective(settings: Settings, flags: Mapping[str, str]) -> list[str]:
    """`BATCHER_PORT=8000 (default)`, one line a setting, secrets redacted. One without a value says
    what that means."""
    lines = []
    for name in _listed(settings):
        value = getattr(settings, name)
        whence = origin(settings, name, flags)
        if value is None and name in _UNSET:
            whence += f": {_UNSET[name]}"
        lines.append(f"{PREFIX}{name.upper()}={_written(value)} ({whence})")
    return lines


def _listed(settings: Settings) -> list[str]:
    """Without those that are deprecated and not used."""
    return [
        name
        for name in Settings.model_fields
        if name not in REPLACED or name in settings.model_fields_set
    ]


def default_of(name: str) -> str:
    """As it would be written, or the effect of leaving it unset; empty: there is none."""
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
    if name == "api_key" and first["type"] == "too_short":
        return (
            _EMPTY_KEY.replace("BATCHER_API_KEY is", "--api-key is")
            if name in flags
            else _EMPTY_KEY
        )
    where = flag(name) if name in flags else PREFIX + name.upper()
    value: Any = "(hidden)" if name == "api_key" else repr(first["input"])
    about = Settings.model_fields[name].description
    if first["type"] in _OURS:
        return f"{where}={value}: {first['msg']} ({about})"
    rules = dict.fromkeys(
        _rule(item) for item in error.errors(include_url=False) if item["loc"][0] == name
    )
    return f"{where}={value}: must be {' or '.join(rules)} ({about})"


def _rule(broken: ErrorDetails) -> str:
    """What the value must be, in our words where pydantic's are a programmer's."""
    bounds = broken.get("ctx", {})
    match broken["type"]:
        case "int_parsing" | "int_from_float" | "int_parsing_size":
            return "a whole number"
        case "float_parsing" | "finite_number":
            return "a number"
        case "bool_parsing":
            return "true or false"
        case "greater_than_equal":
            return f"at least {bounds['ge']:g}"
        case "less_than_equal":
            return f"at most {bounds['le']:.10g}"
        case "literal_error":
            return str(bounds["expected"])
        case "string_pattern_mismatch":
            return "one of the possible values"
        case _:
            return str(broken["msg"])
