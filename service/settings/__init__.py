"""One table of name, default, environment variable, flag and help. Validated whole, at start.

A value comes from the flag, else from the environment (BATCHER_ + the name), else from the default.
Durations are in milliseconds here, at the edge, and in seconds everywhere else. A description says
the unit, what the value does, and what a special value means; the default is added to it.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from batcher import Limits
from service.environment import (
    PREFIX,
    Environment,
    default_cache_folder,
    in_a_home,
    list_of_keys,
)
from service.settings.model import ModelSettings
from service.settings.network import NetworkSettings

Positive = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(allow_inf_nan=False)]
HANG_AFTER_MS = 5_000.0  # where it is unset
Folder = Annotated[str, AfterValidator(in_a_home)]

# Names of an earlier release, by the setting to use instead. They still work, with a warning.
REPLACED = {"target_latency_ms": "request_timeout_ms", "engine": "frontends"}


class Settings(NetworkSettings, ModelSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    max_batch_size: Positive = Field(
        64, description="most inputs in one forward pass; 1: no batching"
    )
    max_batch_tokens: Positive | None = Field(
        None,
        description="most tokens in one forward pass, padding included; a longer input runs alone",
    )
    max_wait_ms: Milliseconds = Field(
        0.0,
        ge=0,
        le=60_000,
        description="milliseconds, from its arrival, that an input may wait on an idle replica for"
        " others to share its batch; 0: it starts at once",
    )
    max_queue_size: Positive = Field(
        4096, description="most inputs that may wait; further ones get 429"
    )
    max_queue_tokens: Positive = Field(
        2_097_152, description="most tokens of the waiting inputs; further ones get 429"
    )
    target_latency_ms: Milliseconds | None = Field(
        None, ge=1, le=3_600_000, description="deprecated: the shorter of the two timeouts applies"
    )
    max_image_pixels: Positive = Field(
        50_000_000,
        description="most pixels, width times height, that an image may have; checked before it is"
        " decoded",
    )
    request_timeout_ms: Milliseconds = Field(
        30_000.0,
        ge=1,
        le=3_600_000,
        description="milliseconds: deadline of a request without X-Request-Timeout-Ms. A request"
        " that is predicted to miss its deadline gets 429 at once; one that misses it gets 504. The"
        " time that a slow client takes to send its body is not counted",
    )
    share_equal: bool = Field(
        True, description="run equal inputs that wait or run at the same time only once"
    )
    cache_bytes: int = Field(
        0, ge=0, description="bytes of memory for a cache of results of equal inputs; 0: no cache"
    )
    hang_after_ms: Milliseconds | None = Field(
        None,
        ge=1,
        le=3_600_000,
        description="milliseconds: a batch that runs for longer than this, and for longer than 10"
        " times its predicted time, counts as hung, and its worker is replaced. While nothing is"
        " known to predict from, a batch has 300 s",
    )
    canary_interval_ms: Milliseconds = Field(
        120_000.0,
        ge=0,
        le=3_600_000,
        description="milliseconds without a batch after which a replica runs a test input, to check"
        " that it still works; 0: never (a runner of your own is never tested)",
    )
    replicas: Positive | Literal["auto"] | None = Field(
        None,
        description="worker processes on each device of BATCHER_DEVICE. auto: as many as fit in its"
        " memory and cores, by the measured needs of one",
    )
    memory_reserve_mb: int = Field(
        512, ge=0, description="MiB of each device's memory that replicas leave free at start"
    )
    frontends: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        1,
        description="HTTP processes, at most 64. 1: HTTP and the engine share one process; more:"
        " the engine has a process of its own. auto: one for every 4 cores from 8 cores on, at"
        " most 8",
    )
    engine: Literal["auto", "inline", "process"] = Field(
        "auto", description="deprecated: BATCHER_FRONTENDS decides where the engine runs"
    )
    isolation: Literal["process", "thread"] = Field(
        "process",
        description="where the model runs: in a process of its own, or in a thread of the engine's,"
        " where a hung batch cannot be interrupted",
    )
    threads: Positive | Literal["auto"] = Field(
        "auto", description="CPU threads of each worker. auto: its share of the cores"
    )
    cpu_workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = Field(
        "auto",
        description="processes that run preprocess and postprocess of a model of your own, one"
        " input at a time, at most 256; only started if the model has one of them. 0: the worker of"
        " the device runs them. auto: one for each core but one, at most 8",
    )
    api_key: Annotated[SecretStr | None, AfterValidator(list_of_keys)] = Field(
        None,
        min_length=1,
        description="keys that callers must send as Authorization: Bearer, separated by commas;"
        " each counts as one caller. Health routes and /docs need none",
    )
    max_connections: Positive = Field(
        4096,
        description="most open connections, fewer if the limit on open files is lower; one more"
        " closes the one that has been idle for longest, or gets 503 if none is idle",
    )
    max_body_bytes: Positive = Field(
        32 * 1024 * 1024,
        description="bytes: a larger request body gets 413, compressed or decoded, and so does one"
        " with more JSON values than an eighth of this, or a million if that is more; a process"
        " holds at most 16 of this size at once, or 512 MiB if that is more; fewer if they have"
        " many values",
    )
    max_client_batch_size: Positive = Field(
        2048,
        description="most inputs in one HTTP request, and no more than BATCHER_MAX_QUEUE_SIZE; more"
        " get 422",
    )
    unknown_fields: Literal["ignore", "refuse"] = Field(
        "ignore",
        description="fields of a body that a route in another service's format does not know:"
        " ignore, as its clients expect, or refuse with 400",
    )
    token_ids: Literal["model", "cl100k", "refuse"] = Field(
        "refuse",
        description="vocabulary of the token ids in /v1/embeddings. model: the served model's;"
        " cl100k: that of OpenAI's embedding models, which LangChain sends (decoded to text; needs"
        " the extra cl100k); refuse: token ids get 400. Other routes take the served model's ids",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe messages that are logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="format of the log on stderr. json: one object a line"
    )
    access_log: Literal["off", "errors", "all"] = Field(
        "errors",
        description="HTTP requests that are logged. errors: status 400 and above, and clients that"
        " disconnected; at most 10 lines a second in all HTTP processes together, then a count."
        " The level is info, from status 500 on warning",
    )
    drain_timeout_ms: Milliseconds = Field(
        30_000.0,
        ge=0,
        le=3_600_000,
        description="milliseconds that a shutdown waits for accepted requests to be answered",
    )
    drain_delay_ms: Milliseconds = Field(
        1000.0,
        ge=0,
        le=3_600_000,
        description="milliseconds between SIGTERM and the shutdown: requests are still served, and"
        " /health/ready answers 503 so that load balancers stop sending new ones",
    )
    cache_dir: Folder | None = Field(
        None,
        description="folder for measurements and converted models, which make the next start"
        " faster; off: nothing is saved",
    )
    sim_fixed_ms: Milliseconds = Field(
        2.0, ge=0, le=3_600_000, description="simulated runner: milliseconds for each batch"
    )
    sim_per_item_ms: Milliseconds = Field(
        0.02, ge=0, le=3_600_000, description="simulated runner: milliseconds more for each input"
    )
    sim_per_token_us: Milliseconds = Field(
        0.0,
        ge=0,
        le=3_600_000_000,
        description="simulated runner: microseconds more for each token, padding included",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, Environment(settings_cls)

    @field_validator("log_level", "log_format", "access_log", mode="before")
    @classmethod
    def _in_any_case(cls, given: object) -> object:
        return given.lower() if isinstance(given, str) else given

    @property
    def api_keys(self) -> tuple[bytes, ...]:
        """Empty: callers need no key. Must not be logged."""
        if self.api_key is None:
            return ()
        return tuple(key.encode() for key in self.api_key.get_secret_value().split(","))

    @property
    def limits(self) -> Limits:
        return Limits(
            max_batch_size=self.max_batch_size,
            max_batch_tokens=self.max_batch_tokens,
            max_wait=self.max_wait_ms / 1e3,
            max_queue_size=self.max_queue_size,
            max_queue_tokens=self.max_queue_tokens,
            share_equal=self.share_equal,
            cache_bytes=self.cache_bytes,
            hang_after=(self.hang_after_ms or HANG_AFTER_MS) / 1e3,
            hang_by_deadline=self.hang_after_ms is None and self.runner_is_own,
        )

    @property
    def deadline(self) -> float:
        """Of a request without X-Request-Timeout-Ms, in seconds from its arrival."""
        target = self.target_latency_ms or self.request_timeout_ms
        return min(self.request_timeout_ms, target) / 1e3

    @property
    def canary_interval(self) -> float | None:
        """Seconds; None: no canaries. A runner of the user's own might not accept one."""
        if self.runner_is_own or not self.canary_interval_ms:
            return None
        return self.canary_interval_ms / 1e3

    @property
    def has_stages(self) -> bool:
        """A model of the user's own may preprocess and postprocess in CPU processes."""
        return self.runner_is_own and self.cpu_workers != 0 and self.isolation == "process"

    @property
    def cache_folder(self) -> str:
        """Empty: nothing is saved."""
        if self.cache_dir is not None:
            return "" if self.cache_dir == "off" else self.cache_dir
        return default_cache_folder(os.environ)

    @property
    def client_batch_limit(self) -> int:
        """Most inputs in one HTTP request: they enter the queue all together or not at all."""
        return min(self.max_client_batch_size, self.max_queue_size)

    @property
    def model_id(self) -> str:
        """The name that clients use for the model."""
        named = self.runner == "transformers" or "model" in self.model_fields_set
        return self.model if named else self.runner


class BadSetting(Exception):
    """One line that names the variable or flag, the value and the rule."""
