"""From the name in BATCHER_RUNNER to a runner, in its worker. Imports no torch: a runner does."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batcher.failures import explain
from batcher.runner import Runner
from service.errors import CannotServe
from service.models.config import RunnerConfig
from service.repository.locate import find_model
from service.repository.vision import IMAGE_TASKS, image_task

# What runs a model of Hugging Face's, by its task. Imported by its worker alone.
ENCODER = "service.models.encoder:EncoderRunner"
RUNNERS: Mapping[str, str] = {
    "image-classify": "service.models.vision.runner:VisionRunner",
    "image-embed": "service.models.vision.runner:VisionRunner",
}


class RunnerNotFound(CannotServe):
    """BATCHER_RUNNER names nothing that can be run."""


class CallableRunner:
    """A plain function from a list of payloads to a list of results, as a runner."""

    def __init__(self, function: Callable[[list[Any]], Sequence[Any]], name: str) -> None:
        self._function = function
        self._name = name

    def warm_up(self) -> Mapping[str, object]:
        return {"model": self._name, "is_function": True}

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return self._function(list(payloads))

    def close(self) -> None:
        pass


def create_runner(runner: str, config: RunnerConfig) -> Runner:
    """`transformers`, `simulated`, or `package.module:Name`; called in the worker.

    A class is called with the config, or with nothing where its constructor names no positional
    parameter; a function is wrapped. Raises RunnerNotFound.
    """
    if runner == "transformers":
        # Read by OpenMP as torch loads it. Its threads would otherwise spin where they wait for
        # each other, and starve whatever shares their cores (measured: up to 3 times slower).
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        return _of_task(config)
    if runner == "simulated":
        if config.task in IMAGE_TASKS:
            from service.models.vision.simulated import SimulatedVision

            return SimulatedVision(config.simulated, config.task)
        from service.models.simulated import SimulatedRunner

        return SimulatedRunner(config.simulated, config.task)
    return _users_own(runner, config)


def _of_task(config: RunnerConfig) -> Runner:
    """Raises what find_model() and image_task() do."""
    task = image_task(find_model(config.model, config.settings.revision), config.task)
    module, _, name = RUNNERS.get(task or "", ENCODER).partition(":")
    runner: Callable[[RunnerConfig], Runner] = getattr(importlib.import_module(module), name)
    return runner(config)


def _users_own(runner: str, config: RunnerConfig) -> Runner:
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
    if isinstance(found, type):
        made: Runner = found(config) if _takes_config(found) else found()
        if missing := [each for each in ("warm_up", "run") if not hasattr(made, each)]:
            raise RunnerNotFound(f"runner {runner!r}: the class has no {' and no '.join(missing)}")
        return made
    if callable(found):
        return CallableRunner(found, runner)
    raise RunnerNotFound(f"runner {runner!r} is neither a class nor a function")


def check_module(runner: str) -> None:
    """Imports nothing: finds out before any worker is started that none of them could. Raises
    RunnerNotFound."""
    package = runner.partition(":")[0].partition(".")[0]
    if ":" in runner and package not in sys.modules and not importlib.util.find_spec(package):
        raise RunnerNotFound(_no_module(runner, package))


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
