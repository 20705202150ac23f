"""From the settings to the model: what the frontend knows of it, and who runs it in each worker."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from batcher import Engine, Runner, Snapshot
from batcher.clock import Clock
from batcher.runner import RunnerInfo
from batcher.stages.engine import StagedEngine
from service.catalog import (
    ServedModel,
    own_model,
    simulated_model,
    text_model,
    vision_model,
)
from service.models.config import ModelConfig, RunnerConfig, SimulatedConfig
from service.models.own.cpu import create_cpu
from service.models.placed import create_pinned
from service.placement.cores import available_cores, physical_cores
from service.placement.cpu_stage import cores_beside, cpu_workers
from service.placement.layout import Layout
from service.placement.replica_count import Placement
from service.processes.gc_tuning import freeze
from service.repository.folder import Wanted
from service.repository.inspection import inspect
from service.repository.locate import find_model
from service.repository.prompts import with_prompts
from service.repository.spec import EncoderSpec, ModelNotSupported
from service.repository.vision import (
    IMAGE_TASKS,
    VisionSpec,
    find_vision_spec,
    image_task,
    simulated_spec,
)
from service.settings import Settings
from service.tasks.cl100k import load as load_cl100k
from service.tasks.plain_text import SIMULATED_LABELS, SimulatedTokenizer, TextPassthrough
from service.tasks.text import TextTokenizer
from service.tasks.text_inputs import TextPreprocessor

_log = logging.getLogger("service")


async def find_served(settings: Settings) -> ServedModel:
    """In a daemon thread: a download that takes minutes must not hold up the end."""
    found: Future[ServedModel] = Future()
    found.set_running_or_notify_cancel()

    def look() -> None:
        try:
            found.set_result(_named(_serve_model(settings), settings))
        except Exception as error:  # it is told by whoever waits
            found.set_exception(error)

    threading.Thread(target=look, name="find-model", daemon=True).start()
    return await asyncio.wrap_future(found)


def _named(served: ServedModel, settings: Settings) -> ServedModel:
    first, *more = settings.served_names or served.names
    return replace(
        served,
        name=first,
        more_names=more,
        takes_any_name=not settings.strict_model_name,
        cl100k=load_cl100k() if settings.token_ids == "cl100k" else None,
    )


def _serve_model(settings: Settings) -> ServedModel:
    created = int(time.time())
    has_prompts = settings.prompt is not None or settings.prompts is not None
    if has_prompts and settings.runner != "transformers":
        raise ModelNotSupported(_NO_PROMPTS)
    if settings.runner == "simulated" and settings.task in IMAGE_TASKS:
        seen = simulated_spec(settings.task, SIMULATED_LABELS.get(settings.task, ()))
        return _of_images(settings, seen, SimulatedTokenizer(), created)
    if settings.runner == "simulated":
        return simulated_model(settings.model_id, settings.task, SimulatedTokenizer(), created)
    if settings.runner != "transformers":
        return own_model(settings.model_id, settings.task, TextPassthrough(), created)
    if settings.task == "predict":
        raise ModelNotSupported(
            "BATCHER_TASK=predict needs a runner of your own (BATCHER_RUNNER=package.module:Name)"
        )
    folder = find_model(settings.model, settings.revision)
    if image_task(folder, settings.task) is not None:
        seen = find_vision_spec(folder, _wanted(settings), settings.cache_folder, _log.info)
        if seen.text is not None:
            seen = replace(seen, text=_prompted(seen.text, settings))
        elif has_prompts:
            raise ModelNotSupported(_NO_PROMPTS)
        texts = TextTokenizer.load(seen.text) if seen.text is not None else None
        return _of_images(settings, seen, texts, created)
    spec = _prompted(find_spec(settings), settings)
    if spec.dropped_head:
        _log.warning(
            "%s is served as an encoder, without its head (BATCHER_TASK=embed): a model that was"
            " not trained for embeddings may give vectors that do not compare well",
            spec.dropped_head,
        )
    return text_model(settings.model_id, spec, TextTokenizer.load(spec), created)


_NO_PROMPTS = (
    "BATCHER_PROMPT and BATCHER_PROMPTS are for models that take texts, run by transformers"
)


def _prompted(spec: EncoderSpec, settings: Settings) -> EncoderSpec:
    return with_prompts(spec, settings.prompt, settings.named_prompts)


def _of_images(
    settings: Settings, spec: VisionSpec, texts: TextPreprocessor | None, created: int
) -> ServedModel:
    from service.tasks.decoding import ImageDecoder  # Pillow: only where there are images

    images = ImageDecoder(settings.max_image_pixels, spec.cost, spec.processor)
    return vision_model(settings.model_id, spec, images, texts, created)


def find_spec(settings: Settings) -> EncoderSpec:
    """Of the model of the runner transformers. Raises ModelNotFound, ModelNotSupported."""
    folder = find_model(settings.model, settings.revision)
    return inspect(folder, _wanted(settings), settings.cache_folder, _log.info)


def _wanted(settings: Settings) -> Wanted:
    return Wanted(settings.task, settings.pooling, settings.trust_remote_code)


def make_engine(settings: Settings, layout: Layout, clock: Clock) -> Engine:
    options: dict[str, Any] = {
        "limits": settings.limits,
        "isolation": settings.isolation,
        "request_timeout": settings.deadline,
        "drain_timeout": settings.drain_timeout_ms / 1e3,
        "clock": clock,
    }
    factories = runner_factories(settings, layout)
    if settings.has_stages:
        return StagedEngine(factories, cpu_factories(settings, layout), _stages_of, **options)
    return Engine(factories, **options)


def _stages_of(info: RunnerInfo) -> tuple[bool, bool]:
    """Whether the model has something to do before a batch, and after it: see ModelRunner."""
    facts = info.details
    prepares = facts.get("preprocesses") is True or facts.get("states_cost") is True
    return prepares, facts.get("postprocesses") is True


async def start_engine(
    engine: Engine, settings: Settings, on_found: Callable[[ServedModel], None]
) -> tuple[ServedModel, Snapshot]:
    """Finds the model and starts the engine with it; returns once a replica is up.

    `on_found` gets the model as soon as it is known, while the workers still load it. Raises what
    the search raises, and what Engine.start does.
    """
    started = time.monotonic()
    served = await find_served(settings)
    on_found(served)
    canary = served.canary()
    await engine.start(canary=canary.payload, canary_interval=settings.canary_interval)
    snapshot = await engine.snapshot()
    freeze()
    _log.info("ready after %.1f s", time.monotonic() - started)
    return served, snapshot


def runner_factories(settings: Settings, layout: Layout) -> list[functools.partial[Runner]]:
    of_model = ModelConfig(
        model=settings.model,
        task=settings.task,
        revision=settings.revision,
        pooling=settings.pooling,
        trust_remote_code=settings.trust_remote_code,
        dtype=settings.dtype,
        backend=settings.backend,
        compile=settings.compile,
        max_batch_size=settings.max_batch_size,
        min_cosine=settings.min_cosine,
        profile=True,
        cache_dir=settings.cache_folder,
    )
    simulated = SimulatedConfig(
        settings.sim_fixed_ms, settings.sim_per_item_ms, settings.sim_per_token_us
    )
    replicas = len(layout.placements)
    return [
        functools.partial(
            create_pinned,
            settings.runner,
            RunnerConfig(
                of_model,
                place,
                replica,
                replicas,
                simulated,
                max_output_bytes=settings.max_body_bytes,
                has_stages=settings.has_stages,
            ),
        )
        for replica, place in enumerate(layout.placements)
    ]


def cpu_factories(settings: Settings, layout: Layout) -> list[functools.partial[Runner]]:
    """What CPU processes run, one for each."""
    numbers = [number for core in physical_cores() for number in core]
    place = Placement("cpu", cores_beside(layout.placements, numbers), threads=1)
    count = cpu_workers(settings.cpu_workers, available_cores())
    of_model = ModelConfig(model=settings.model, task=settings.task)
    return [
        functools.partial(
            create_cpu,
            settings.runner,
            RunnerConfig(of_model, place, max_output_bytes=settings.max_body_bytes),
        )
        for _ in range(count)
    ]
