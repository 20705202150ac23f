"""From package.module:Name to the class or function of the user's. Imports their module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

from batcher import Model, Runner
from batcher.failures import explain
from service.errors import CannotServe
from service.models.config import RunnerConfig


class RunnerNotFound(CannotServe):
    """BATCHER_RUNNER names nothing that can be run."""


def find(runner: str) -> Any:
    """A class, or something that can be called. Raises RunnerNotFound."""
    module_name, colon, name = runner.partition(":")
    if not (colon and module_name and name):
        raise RunnerNotFound(
            f"unknown runner {runner!r}: write transformers, simulated or package.module:Name"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise RunnerNotFound(_no_module(runner, str(error.name))) from error
        raise RunnerNotFound(_not_imported(runner, module_name, error)) from error
    except (Exception, SystemExit) as error:  # whatever the module raises, or a script's exit
        raise RunnerNotFound(_not_imported(runner, module_name, error)) from error
    found = getattr(module, name, None)
    if found is None:
        raise RunnerNotFound(f"runner {runner!r}: module {module_name} has no {name!r}")
    if not callable(found):
        raise RunnerNotFound(f"runner {runner!r} is neither a class nor a function")
    return found


def is_runner(found: Any) -> bool:
    """A class with methods of a Runner."""
    return isinstance(found, type) and (hasattr(found, "run") or hasattr(found, "warm_up"))


def runner_of(found: type, runner: str, config: RunnerConfig) -> Runner:
    """Raises RunnerNotFound."""
    made: Runner = _made(found, config)
    if missing := [each for each in ("warm_up", "run") if not hasattr(made, each)]:
        raise RunnerNotFound(f"runner {runner!r}: the class has no {' and no '.join(missing)}")
    return made


def model_of(found: Any, runner: str, config: RunnerConfig) -> Model:
    """A class with `predict`, or a function, as a Model. Raises RunnerNotFound."""
    if not isinstance(found, type):
        return FunctionModel(found)
    if getattr(found, "predict", Model.predict) is Model.predict:
        raise RunnerNotFound(
            f"runner {runner!r}: the class has no predict, which a Model needs; a Runner has"
            " warm_up, run and close"
        )
    if not issubclass(found, Model):  # then it has what it does not define from Model
        found = type(found.__name__, (found, Model), {})
    made: Model = _made(found, config)
    return made


class FunctionModel(Model):
    """A plain function is a `predict`."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def predict(self, batch: Any) -> Any:
        return self._function(batch)


def check_module(runner: str) -> None:
    """Imports nothing: finds out before any worker is started that none of them could. Raises
    RunnerNotFound."""
    package = runner.partition(":")[0].partition(".")[0]
    if ":" in runner and package not in sys.modules and not importlib.util.find_spec(package):
        raise RunnerNotFound(_no_module(runner, package))


def _made(found: type, config: RunnerConfig) -> Any:
    """An instance: its constructor is given the config, or nothing where it takes no argument."""
    return found(config) if _takes_config(found) else found()


def _no_module(runner: str, missing: str) -> str:
    return (
        f"runner {runner!r}: there is no module {missing}, neither in this folder nor among the"
        " installed packages"
    )


def _not_imported(runner: str, module: str, error: BaseException) -> str:
    deepest = traceback.extract_tb(error.__traceback__)[-1]
    where = f" ({deepest.filename}, line {deepest.lineno})"
    is_told = isinstance(error, SyntaxError)  # by its own text
    return (
        f"runner {runner!r}: importing {module} failed: {explain(error)}{'' if is_told else where}"
    )


def _takes_config(runner: type) -> bool:
    # `*args` does not count: a class that derives from Runner, a Protocol, has it for no reason.
    return any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(runner).parameters.values()
    )
