"""What all endpoints share: one Front for each HTTP process, handed to them as lifespan state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import random
from typing import Literal, TypedDict

from batcher import Client, NotReady
from batcher.clock import Clock, MonotonicClock
from service.http.headers import ServerTiming
from service.inference.lag import Lag
from service.inference.offload import Aside
from service.observability.gpu_readings import Telemetry
from service.observability.prometheus import Tally
from service.observability.whole_service import Alone, Census
from service.settings import Settings
from service.tasks.protocol import Preparer
from service.version import version

Scaling = Literal["model", "service", "never"]
"""Who brings vectors to length 1: the model itself, the service on request, or nobody."""


@dataclass(frozen=True, slots=True)
class Served:
    """The model, as clients see it. Known once it has been found; its replicas come up later."""

    model: str
    preparer: Preparer
    scaling: Scaling
    created: int  # Unix seconds
    dimension: int | None = None  # None: the user's own runner knows
    max_length: int | None = None  # tokens
    pooling: str | None = None
    names: frozenset[str] = field(init=False)  # any of these in a request means this model

    def __post_init__(self) -> None:
        last_part = self.model.rstrip("/").rpartition("/")[2]
        object.__setattr__(self, "names", frozenset({self.model, last_part}))


@dataclass
class Front:
    settings: Settings
    client: Client
    clock: Clock = field(default_factory=MonotonicClock)
    tally: Tally = field(default_factory=Tally)
    served: Served | None = None  # None: still looking for the model
    version: str = field(default_factory=version)
    draw: Callable[[], float] = random  # numbers from 0 to 1, for Retry-After
    stopping: bool = False  # a signal has come: answers say `connection: close`
    fronts: int = 1  # of the service, this one included
    others: Census | None = None  # who counts them in; None: this process is all there is

    def __post_init__(self) -> None:
        self.census: Census = self.others or Alone(self)
        self.timing = ServerTiming()
        self.lag = Lag()
        self.aside = Aside(self.clock)
        self.gpus = Telemetry()
        self.request_timeout = self.settings.deadline
        self.input_limit = self.settings.client_batch_limit
        self.body_limit = self.settings.max_body_bytes

    def close(self) -> None:
        """Once nothing more is served."""
        self.aside.close()
        self.gpus.close()

    def model(self) -> Served:
        """Raises NotReady."""
        if self.served is None:
            raise NotReady("the model is being loaded", retry_after=1.0)
        return self.served


class State(TypedDict):
    """The lifespan state."""

    front: Front
