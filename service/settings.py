"""One table of name, default, environment variable, flag and help. Validated whole, at start.

A value comes from the flag, else from the environment (BATCHER_ + the name), else from the default.
Durations are in milliseconds here, at the edge, and in seconds everywhere else.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from batcher import Limits

PREFIX = "BATCHER_"

Positive = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        description="Hugging Face id or local folder",
    )
    runner: str = Field(
        "transformers",
        pattern=r"^(transformers|simulated|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="transformers, simulated, or package.module:Class of your own",
    )
    task: Literal["auto", "embed", "classify", "predict"] = Field(
        "auto",
        description="what the model does; auto: by its files, which must leave no doubt. A function"
        " of your own is for predict, a class of your own for embed as well if it answers vectors",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|(cpu|cuda(:\d+)?)(,(cpu|cuda(:\d+)?))*)$",
        description="auto (all CUDA devices, else the CPU), cpu, cuda, or a list such as"
        " cuda:0,cuda:1",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="auto: bfloat16 where the device has it natively,"
        " else float16 on CUDA and float32 on CPU; int8: by backend onnx only",
    )
    backend: Literal["auto", "torch", "onnx", "openvino"] = Field(
        "auto",
        description="what runs the model; auto: what is measured fastest at the first start, of"
        " those that are installed",
    )
    compile: Literal["off", "on"] = Field(
        "off", description="backend torch: whether torch.compile compiles the model at the start"
    )
    min_cosine: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None,
        ge=0,
        le=1,
        description="cosine to float32 that answers in a reduced precision must keep; blocks of the"
        " model that spoil it go back to float32",
    )
    max_batch_size: Positive = Field(
        64, description="requests in one forward pass; 1 switches batching off"
    )
    max_batch_tokens: Positive | None = Field(
        None, description="padded tokens in one forward pass; a longer input runs alone"
    )
    max_wait_ms: Milliseconds = Field(
        0.0,
        ge=0,
        le=60_000,
        description="longest a waiting request holds a free replica for company, from its arrival",
    )
    max_queue_size: Positive = Field(4096, description="requests that may wait")
    max_queue_tokens: Positive = Field(2_097_152, description="tokens of the requests that wait")
    target_latency_ms: Milliseconds | None = Field(
        None,
        ge=1,
        le=3_600_000,
        description="what traffic is to be answered within that brings no deadline: what cannot be"
        " gets 429 at once, or 504 before it takes device time; the shorter of this and the request"
        " timeout counts",
    )
    request_timeout_ms: Milliseconds = Field(
        30_000.0, ge=1, le=3_600_000, description="deadline of a request that brings none"
    )
    share_equal: bool = Field(True, description="equal inputs that wait or run are run once")
    cache_bytes: int = Field(
        0, ge=0, description="memory for finished answers, given again to equal inputs; 0: none"
    )
    hang_after_ms: Milliseconds = Field(
        5_000.0,
        ge=1,
        le=3_600_000,
        description="a batch that takes longer than this, and than 10 times its predicted time, is"
        " taken to hang: its worker is replaced",
    )
    canary_interval_ms: Milliseconds = Field(
        120_000.0,
        ge=0,
        le=3_600_000,
        description="a replica that has run nothing for this long runs one input of its own, to see"
        " that it still can; 0: never (a runner of your own is never asked)",
    )
    replicas: Positive | Literal["auto"] | None = Field(
        None,
        description="worker processes on each device of BATCHER_DEVICE; auto: as many as its memory"
        " and the cores allow, by what a replica was measured to need",
    )
    memory_reserve_mb: int = Field(
        512, ge=0, description="MiB of each device's memory that replicas must leave free at start"
    )
    frontends: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        1,
        description="HTTP processes; more than one need the engine in its own. auto: one for every"
        " 4 cores from 8 cores on, at most 8",
    )
    engine: Literal["auto", "inline", "process"] = Field(
        "auto",
        description="where requests are queued and batched: inline (in the one HTTP process) or"
        " process (of its own); auto: process for more than one HTTP process",
    )
    isolation: Literal["process", "thread"] = Field(
        "process",
        description="where the model runs: process, or thread (of this process),"
        " where a run that hangs cannot be interrupted",
    )
    threads: Positive | Literal["auto"] = Field("auto", description="CPU threads of each worker")
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: any free one")
    api_key: SecretStr | None = Field(
        None,
        min_length=1,
        description="when set, Authorization: Bearer is required except on health routes and /docs;"
        " several keys are separated by commas, and each is one caller",
    )
    max_connections: Positive = Field(
        4096,
        description="connections at once, less where the limit on open files asks for it;"
        " one more closes the one that has been idle for longest",
    )
    max_body_bytes: Positive = Field(2 * 1024 * 1024, description="a larger request body gets 413")
    max_client_batch_size: Positive = Field(
        256, description="inputs in one HTTP request; more get 422"
    )
    drain_timeout_ms: Milliseconds = Field(
        30_000.0, ge=0, le=3_600_000, description="longest a shutdown waits for accepted work"
    )
    drain_delay_ms: Milliseconds = Field(
        1000.0,
        ge=0,
        le=3_600_000,
        description="how long SIGTERM goes on serving, not ready, before it drains;"
        " load balancers learn of it in that time",
    )
    cache_dir: str | None = Field(
        None,
        description="folder for what a start has measured of the model, so that the next one need"
        " not; empty: nothing is saved",
    )
    sim_fixed_ms: Milliseconds = Field(
        2.0, ge=0, le=3_600_000, description="simulated accelerator: time of a batch"
    )
    sim_per_item_ms: Milliseconds = Field(
        0.02, ge=0, le=3_600_000, description="simulated accelerator: and of each input in it"
    )
    sim_per_token_us: Milliseconds = Field(
        0.0, ge=0, le=3_600_000_000, description="simulated accelerator: and of each padded token"
    )

    @field_validator(
        "max_batch_tokens", "min_cosine", "target_latency_ms", "replicas", mode="before"
    )
    @classmethod
    def _empty_is_unset(cls, given: object) -> object:
        """--print-config writes it so. (An empty key is none of these: it must not open the
        service.)"""
        return None if given == "" else given

    @field_validator("api_key")
    @classmethod
    def _is_a_list_of_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        each = [] if keys is None else keys.get_secret_value().split(",")
        if not all(each):
            # A comma too many must not open the service to whoever sends an empty key.
            raise PydanticCustomError("empty", "must not have an empty key between its commas")
        if any(key != key.strip() for key in each):
            # Headers lose the white space around them, so no request could ever bring this key.
            raise PydanticCustomError("space", "no key must begin or end with white space")
        if not all(key.isprintable() for key in each):  # what is no UTF-8 comes as surrogates
            raise PydanticCustomError("printable", "keys must be of printable characters")
        return keys

    @property
    def api_keys(self) -> tuple[bytes, ...]:
        """Empty: none is asked for. Not to be logged."""
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
            hang_after=self.hang_after_ms / 1e3,
        )

    @property
    def deadline(self) -> float:
        """Seconds that a request gets which names no deadline of its own."""
        target = self.target_latency_ms or self.request_timeout_ms
        return min(self.request_timeout_ms, target) / 1e3

    @property
    def canary_interval(self) -> float | None:
        """Seconds; None: no canaries. What a runner of the user's own would make of one, nobody
        knows."""
        is_ours = self.runner in ("transformers", "simulated")
        return self.canary_interval_ms / 1e3 if is_ours and self.canary_interval_ms else None

    @property
    def cache_folder(self) -> str:
        """Empty: nothing is saved."""
        if self.cache_dir is not None:
            return self.cache_dir
        # As the XDG Base Directory Specification says; a path that is not absolute is ignored.
        base = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(base if os.path.isabs(base) else "~/.cache", "batcher")

    @property
    def client_batch_limit(self) -> int:
        """Inputs that one HTTP request may bring: they enter the queue all together or not."""
        return min(self.max_client_batch_size, self.max_queue_size)

    @property
    def model_id(self) -> str:
        """The name that clients know the model by."""
        named = self.runner == "transformers" or "model" in self.model_fields_set
        return self.model if named else self.runner


class BadSetting(Exception):
    """One line that names the variable or flag, the value and the rule."""
