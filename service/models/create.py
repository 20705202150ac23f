"""From the name in BATCHER_RUNNER to a runner, in its worker. Imports no torch: a runner does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping

from batcher.runner import Runner
from service.models.config import RunnerConfig
from service.repository.locate import find_model
from service.repository.vision import IMAGE_TASKS, image_task

# What runs a model of Hugging Face's, by its task. Imported by its worker alone.
ENCODER = "service.models.encoder:EncoderRunner"
RUNNERS: Mapping[str, str] = {
    "image-classify": "service.models.vision.runner:VisionRunner",
    "image-embed": "service.models.vision.runner:VisionRunner",
}


def create_runner(runner: str, config: RunnerConfig) -> Runner:
    """`transformers`, `simulated`, or `package.module:Name`; called in the worker.

    A class of the user's own is called with the config, or with nothing where its constructor names
    no positional parameter. Raises RunnerNotFound.
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
    """Raises RunnerNotFound."""
    from service.models.own.find import find, is_runner, model_of, runner_of

    found = find(runner)
    if is_runner(found):
        return runner_of(found, runner, config)
    from service.models.own.runner import ModelRunner

    return ModelRunner(
        model_of(found, runner, config),
        runner,
        config.device,
        max_output_bytes=config.max_output_bytes,
        stages=config.has_stages,
    )
