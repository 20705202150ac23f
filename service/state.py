"""What the endpoints of one HTTP process share. The application is made with it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import random
from typing import Any, TypeVar

from batcher import Client, NotReady
from batcher.clock import Clock, MonotonicClock
from service.catalog import ServedModel, SomeTask
from service.errors import Header
from service.http.body import BodyReader
from service.http.exchange import Exchange
from service.http.headers import ServerTiming, asked_for
from service.inference.offload import OffloadPool
from service.inference.pipeline import Pipeline, Results
from service.observability.gpu_readings import Telemetry
from service.observability.http_counts import HttpDurations
from service.observability.whole_service import Alone, Census
from service.settings import Settings
from service.tasks.protocol import DEFAULT_OPTIONS, Options, Task
from service.version import version

Raw = TypeVar("Raw")
Result = TypeVar("Result")


class AppState:
    def __init__(
        self,
        settings: Settings,
        client: Client,
        clock: Clock | None = None,
        *,
        frontends: int = 1,  # of the service, this one included
        whole_service: Census | None = None,  # None: this process is all there is
    ) -> None:
        self.settings = settings
        self.clock: Clock = clock or MonotonicClock()
        self.served: ServedModel | None = None  # None: still looking for the model
        self.version = version()
        self.jitter: Callable[[], float] = random  # numbers from 0 to 1, for Retry-After
        self.stopping = False  # a signal has come: answers say `connection: close`
        self.frontends = frontends
        self.tally = HttpDurations()
        self.census: Census = whole_service or Alone(self)
        self.gpus = Telemetry()
        self.request_timeout = settings.deadline  # seconds
        self.input_limit = settings.client_batch_limit
        self.offload = OffloadPool(self.clock)
        self.bodies = BodyReader(settings.max_body_bytes, self.request_timeout, self.offload)
        self.pipeline = Pipeline(client, self.clock, self.offload)
        self._timing = ServerTiming()

    @property
    def client(self) -> Client:
        return self.pipeline.client

    @client.setter
    def client(self, client: Client) -> None:
        self.pipeline.client = client

    def close(self) -> None:
        """Once nothing more is served."""
        self.offload.close()
        self.gpus.close()

    def model(self) -> ServedModel:
        """Raises NotReady."""
        if self.served is None:
            raise NotReady("the model is being loaded", retry_after=1.0)
        return self.served

    def find(self, kind: type[SomeTask]) -> SomeTask | None:
        """The task of that kind, if the model is known to have one; else see ask_for()."""
        served = self.served
        found = served.tasks.get(kind.name) if served is not None else None
        return found if isinstance(found, kind) else None

    async def ask_for(self, kind: type[SomeTask]) -> SomeTask:
        """Raises NotReady, WrongTask."""
        served = await self.decide()
        if served is None or served.if_class:
            raise NotReady("the model is being loaded", retry_after=1.0)
        return served.task(kind)

    async def decide(self) -> ServedModel | None:
        """The model with all of its tasks: the worker of a user's own runner is asked what it is,
        once it is up. Raises NotReady."""
        served = self.served
        if served is None or not served.if_class:
            return served
        replicas = (await self.client.snapshot()).replicas
        up = next((replica for replica in replicas if replica.up), None)
        if up is not None:
            self.served = served.decided(
                is_function=up.info.details.get("is_function") is True,
                dimension=up.info.dimension,
            )
        return self.served

    async def dimension(self) -> int | None:
        """Of the vectors; None until it is known. A user's own runner tells it when it is up."""
        if self.served is not None and self.served.dimension is not None:
            return self.served.dimension
        snapshot = await self.client.snapshot()
        return snapshot.replicas[0].info.dimension if snapshot.replicas else None

    def run(
        self,
        exchange: Exchange,
        task: Task[Raw, Result],
        inputs: Sequence[Raw],
        field: str = "inputs",
        options: Options = DEFAULT_OPTIONS,
        priority: int | None = None,
    ) -> Coroutine[Any, Any, Results[Result]]:
        """Pipeline.run() for an HTTP request. `priority`: the body's; None: the header's."""
        exchange.enter("waiting")  # until it is answered
        timeout, header_priority = asked_for(exchange.headers, self.request_timeout)
        return self.pipeline.run(
            task,
            inputs,
            started=exchange.started,
            timeout=timeout,
            field=field,
            options=options,
            priority=header_priority if priority is None else priority,
            caller=exchange.caller,
        )

    def timing(self, exchange: Exchange, results: Results[Result]) -> Header:
        """For the answer. Call it last: it says what time it is."""
        now = self.clock.now()
        answers = results.answers
        self.pipeline.lag.observe(answers[-1].batch, now)
        total = now - exchange.started
        return (b"server-timing", self._timing.header(answers, results.preprocessing, total))
