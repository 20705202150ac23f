"""Which environment variables are settings: those with our prefix, less what Kubernetes and Docker
inject there for a Service or container that is itself called `batcher` or `batcher-…`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import PydanticBaseSettingsSource

PREFIX = "BATCHER_"

_NOT_OURS = ("BATCHER_LOADTEST_",)  # the load tests read these
# Unset elsewhere: `KEY: ${KEY:-}` in a compose file sets an empty variable where KEY is unset.
EMPTY_IS_A_VALUE = {"api_key", "cache_dir"}

# Behind the prefix, which may be only the beginning of the Service's name. See "Accessing the
# Service" in Kubernetes' documentation, and "Legacy container links" in Docker's.
_OF_A_LINK = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO|PORT_START|PORT_END))?)",
    re.ASCII,
)
_PORT_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+")  # the value of …PORT
_OF_A_CONTAINER = re.compile(r"(\w+?)_(?:NAME|ENV_\w+)", re.ASCII)
_NAME_LINK = re.compile(r"/[^/\s]+/[^/\s]+")  # the value of …NAME: both containers


class Environment(PydanticBaseSettingsSource):
    """The settings that the environment gives, for the class that has them all."""

    def __call__(self) -> dict[str, Any]:
        found = settings_in(os.environ)
        return {name: found[name] for name in self.settings_cls.model_fields if name in found}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("all are read at once")


def settings_in(environ: Mapping[str, str]) -> dict[str, str]:
    """By the setting's name in lower case, known or not. An empty variable counts as unset."""
    found = {}
    for variable in _prefixed(environ):
        name = variable.upper().removeprefix(PREFIX).lower()
        value = environ[variable]
        if (value or name in EMPTY_IS_A_VALUE) and not is_link(variable, environ):
            found[name] = value
    return found


def links_in(environ: Mapping[str, str]) -> list[str]:
    """The variables with our prefix that describe a Service or container instead."""
    return [variable for variable in _prefixed(environ) if is_link(variable, environ)]


def unknown_in(environ: Mapping[str, str], known: Container[str]) -> list[str]:
    """The variables that look like settings and are none: probably misspelt."""
    return [
        variable
        for variable in _prefixed(environ)
        if variable.upper().removeprefix(PREFIX).lower() not in known
        and not is_link(variable, environ)
    ]


def is_link(variable: str, environ: Mapping[str, str]) -> bool:
    name = variable.removeprefix(PREFIX)
    if _OF_A_LINK.fullmatch(name):
        return True
    if of_container := _OF_A_CONTAINER.fullmatch(variable):  # it has a port and a name, too
        port, other = (environ.get(f"{of_container[1]}_{each}", "") for each in ("PORT", "NAME"))
        return bool(_PORT_LINK.fullmatch(port) and _NAME_LINK.fullmatch(other))
    is_port = name == "PORT" or name.endswith("_PORT")
    return is_port and _PORT_LINK.fullmatch(environ[variable]) is not None


def _prefixed(environ: Mapping[str, str]) -> list[str]:
    names = [name for name in environ if name.upper().startswith(PREFIX)]
    return sorted(name for name in names if not name.upper().startswith(_NOT_OURS))


def default_cache_folder(environ: Mapping[str, str]) -> str:
    """As the XDG Base Directory Specification says. Empty: this user has no home folder, like a
    user id without a name in a container."""
    base = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative one is ignored
        return os.path.join(base, "batcher")
    return "~/.cache/batcher" if os.path.expanduser("~") != "~" else ""


def in_a_home(folder: str) -> str:
    """The folder as given. Raises PydanticCustomError if it begins with ~ and there is no home."""
    if os.path.expanduser(folder).startswith("~"):
        raise PydanticCustomError("home", "cannot be used: there is no home folder to replace ~")
    return folder


def list_of_keys(keys: SecretStr | None) -> SecretStr | None:
    """The keys as given. Raises PydanticCustomError for one that no request could send, or any."""
    each = [] if keys is None else keys.get_secret_value().split(",")
    if not all(each):
        # Else an extra comma would let in every caller that sends an empty key.
        raise PydanticCustomError("empty", "must not contain an empty key")
    if any(key != key.strip() for key in each):
        # White space around a header's value is dropped: no request could send this key.
        raise PydanticCustomError("space", "must not have white space at the ends of a key")
    if not all(key.isprintable() for key in each):  # bytes that are not UTF-8 are surrogates
        raise PydanticCustomError("printable", "must consist of printable characters")
    return keys


def list_of_names(names: str | None) -> str | None:
    """As given. Raises PydanticCustomError for an empty one."""
    if names is not None and not all(map(str.strip, names.split(","))):
        raise PydanticCustomError("empty", "must not contain an empty name")
    return names


def named_texts(text: str | None) -> str | None:
    """As given. Raises PydanticCustomError unless it is a JSON object of texts."""
    if text is not None:
        try:
            named = json.loads(text)
        except ValueError:
            named = None
        if not isinstance(named, dict) or not all(isinstance(one, str) for one in named.values()):
            raise PydanticCustomError(
                "prompts", 'must be a JSON object of texts, such as {"query": "query: "}'
            )
    return text
