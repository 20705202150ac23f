"""What the endpoints of one HTTP process share. The application is made with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import random
from typing import Any

from batcher import Client, NotReady
from batcher.clock import Clock, MonotonicClock
from service.catalog import AnyTask, ServedModel, SomeTask
from service.errors import Problem, WrongTask, outcome_of
from service.http.access_log import AccessLog
from service.http.body import LARGEST_BODIES, LEAST_HELD, Fields, LargeBodies, fields
from service.inference.offload import OffloadPool
from service.inference.pipeline import Pipeline
from service.observability.gpu_readings import GpuReadings
from service.observability.http_counts import HttpDurations
from service.observability.whole_service import LocalView, ServiceView
from service.settings import Settings
from service.tasks.text import TextTokenizer
from service.version import VERSION


class AppState:
    def __init__(
        self,
        settings: Settings,
        client: Client,
        clock: Clock | None = None,
        *,
        frontends: int = 1,  # of the service, this one included
        whole_service: ServiceView | None = None,  # None: this process is all there is
    ) -> None:
        self.settings = settings
        self.clock: Clock = clock or MonotonicClock()
        self._served: ServedModel | None = None
        self.tasks: Mapping[str, AnyTask] = {}  # that the model is known to have, by their names
        self.version = VERSION
        self.jitter: Callable[[], float] = random  # numbers from 0 to 1, for Retry-After
        self.stopping = False  # a signal has come: answers say `connection: close`
        self.frontends = frontends
        self.tally = HttpDurations()
        self.access_log = AccessLog(settings.access_log, self.clock.now, frontends)
        self.whole_service: ServiceView = whole_service or LocalView(self)
        self.gpus = GpuReadings()
        self.request_timeout = settings.deadline  # seconds
        self.max_body_bytes = settings.max_body_bytes
        self.large_bodies = LargeBodies(max(LEAST_HELD, LARGEST_BODIES * settings.max_body_bytes))
        self.input_limit = settings.client_batch_limit
        self.offload = OffloadPool(self.clock)
        self.pipeline = Pipeline(client, self.clock, self.offload)

    @property
    def served(self) -> ServedModel | None:
        """None: still looking for the model."""
        return self._served

    @served.setter
    def served(self, served: ServedModel | None) -> None:
        self._served = served
        self.tasks = served.tasks if served is not None else {}

    @property
    def client(self) -> Client:
        return self.pipeline.client

    @client.setter
    def client(self, client: Client) -> None:
        self.pipeline.client = client

    def on_refusal(self, problem: Problem, request_id: str, client: str) -> None:
        """The edge has answered what it could not give to a route."""
        self.tally.observe("", outcome_of(problem.status), 0.0)
        self.access_log.add_refusal(problem, request_id, client)

    def close(self) -> None:
        """Once nothing more is served."""
        self.access_log.close()
        self.offload.close()
        self.gpus.close()

    def fields(self, model: type[Fields], body: dict[str, Any]) -> Fields:
        """What a body says, checked. Raises InputError, naming the field and the rule."""
        return fields(model, body, refuse_unknown=self.settings.unknown_fields == "refuse")

    def model(self) -> ServedModel:
        """Raises NotReady."""
        if self.served is None:
            raise NotReady("the model is being loaded", retry_after=1.0)
        return self.served

    async def task(self, kind: type[SomeTask]) -> SomeTask:
        """That of the model at hand. Raises NotReady, WrongTask."""
        found = self.tasks.get(kind.name)
        return found if isinstance(found, kind) else await self.ask_for(kind)

    async def ask_for(self, kind: type[SomeTask]) -> SomeTask:
        """The task of that kind, where `tasks` has none. Raises NotReady, WrongTask."""
        return (await self.decided()).task(kind)

    async def decided(self) -> ServedModel:
        """The model with all of its tasks. Raises NotReady."""
        served = await self.decide()
        if served is None or not served.is_decided:
            raise NotReady("the model is being loaded", retry_after=1.0)
        return served

    def tokenizer(self) -> TextTokenizer:
        """Raises NotReady, WrongTask."""
        served = self.model()
        if served.tokenizer is None:
            raise WrongTask("this model has no tokenizer: its runner gets whole texts")
        return served.tokenizer

    async def decide(self) -> ServedModel | None:
        """The model with all of its tasks: the worker of a user's own runner is asked what it is,
        once it is up. Raises NotReady."""
        served = self.served
        if served is None or served.is_decided:
            return served
        replicas = (await self.client.snapshot()).replicas
        up = next((replica for replica in replicas if replica.up), None)
        if up is not None:
            self.served = served.decided(up.info)
        return self.served

    async def dimension(self) -> int | None:
        """Of the vectors; None until it is known. A user's own runner tells it when it is up."""
        if self.served is not None and self.served.dimension is not None:
            return self.served.dimension
        snapshot = await self.client.snapshot()
        return snapshot.replicas[0].info.dimension if snapshot.replicas else None
