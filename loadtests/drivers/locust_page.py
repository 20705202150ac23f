"""What Locust's page may start: the values of its form, checked before any user starts."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping

from loadtests.drivers import workloads
from loadtests.drivers.target import number_between, parse_target

rate_argument = number_between(0.1, 10_000)


def _kind(text: str) -> None:
    if text not in workloads.KINDS:
        raise ValueError(f"{text!r} is not one of {', '.join(workloads.KINDS)}")


def _seed(text: str) -> None:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")


_RULES: Mapping[str, Callable[[str], object]] = {
    "host": parse_target,
    "rate": rate_argument,
    "texts": _kind,
    "seed": _seed,
}


def refusal(form: Mapping[str, str]) -> str | None:
    """Why the form cannot start a test, in one line for the page; None if it can.

    Locust logs an error of a listener and starts the users all the same, so a wrong host must be
    refused here: load tests drive the loopback only.
    """
    for name, check in _RULES.items():
        try:
            if name in form:
                check(form[name])
        except (ValueError, ArgumentTypeError) as error:
            return f"{name}: {error}"
    return None
