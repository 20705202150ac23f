"""One service in this process, with its engine and model, asked over HTTP."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from starlette.testclient import TestClient

from batcher import Engine
from batcher.clock import MonotonicClock
from loadtests.checks.models.distance import Wrong
from service.app import create_app
from service.models.config import ModelConfig, RunnerConfig
from service.models.create import create_runner
from service.placement.replica_count import Placement
from service.processes.build import find_served
from service.repository import inspection
from service.repository.folder import Wanted
from service.repository.json_files import ModelNotSupported
from service.settings import Settings
from service.state import AppState


@contextlib.contextmanager
def serving(folder: Path, cache: Path, **settings: object) -> Iterator[TestClient]:
    """In float32. `settings` by their names without the prefix. Raises ModelNotSupported or
    RunnerFailed where the model is refused."""
    given = {"model": str(folder), "device": "cpu", "dtype": "float32", "cache_dir": str(cache)}
    # text, as in the environment
    chosen = Settings(**{"request_timeout_ms": 120_000, **given, **settings})  # type: ignore[arg-type]
    config = ModelConfig(
        model=chosen.model,
        task=chosen.task,
        pooling=chosen.pooling,
        dtype=chosen.dtype,
        backend=chosen.backend,
        compile=chosen.compile,
        max_batch_size=chosen.max_batch_size,
        cache_dir=chosen.cache_folder,
    )
    clock = MonotonicClock()
    made = functools.partial(
        create_runner, "transformers", RunnerConfig(config, Placement("cpu", threads=1))
    )
    engine = Engine(made, limits=chosen.limits, isolation="thread", clock=clock)
    state = AppState(chosen, engine, clock)

    async def start() -> None:
        state.served = await find_served(chosen)
        await engine.start()
        assert engine.client is not None
        state.client = engine.client

    with TestClient(create_app(state), raise_server_exceptions=False) as http:
        assert http.portal is not None
        try:
            http.portal.call(start)
            yield http
        finally:
            http.portal.call(engine.close)
            state.close()


@contextlib.contextmanager
def models_are_read_here() -> Iterator[None]:
    """Not in processes of their own, each of which imports the reference library for seconds; and
    without what the libraries print. On one thread: the models are tiny."""
    import torch
    import transformers

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        with mock.patch.object(inspection, "run", _read_here):
            yield
    finally:
        torch.set_num_threads(threads)


def _read_here(folder: Path, wanted: Wanted, made: Path) -> None:
    from service.models.reference.inspect import inspect_here

    try:
        inspect_here(folder, wanted, made)
    except ModelNotSupported as error:
        (made / inspection.REFUSAL).write_text(str(error))


def get(http: TestClient, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(http: TestClient, path: str, body: Mapping[str, Any] | bytes) -> Any:
    """Bytes as they are, without a content type. Raises Wrong for anything but 200."""
    given: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = http.post(path, **given)
    if answer.status_code != 200:
        raise Wrong(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
