"""What a worker is told of its runner. Plain data: a frontend and a worker both import it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """What a runner is told. `model` may be a hub id or a folder; `threads` 0 means auto."""

    model: str
    task: str = "auto"
    device: str = "auto"  # cpu, or cuda:1
    dtype: str = "auto"
    backend: str = "torch"  # auto (the service's default), torch, onnx, openvino
    compile: bool = False  # torch only
    max_batch_size: int = 64  # what to prepare for; a larger batch must run, too
    min_cosine: float | None = None  # to float32, of a reduced precision; None: by the dtype
    float32_blocks: tuple[str, ...] = ()  # of a reduced precision; the guard fills this in
    threads: int = 0
    cores: tuple[int, ...] = ()  # the only ones to run on; empty: any
    replica: int = 0  # its number, for a runner of the user's own
    replicas: int = 1
    sim_fixed_ms: float = 2.0
    sim_per_item_ms: float = 0.02
    sim_per_token_us: float = 0.0
    profile: bool = False  # measure how long batches take, before the first one
    cache_dir: str = ""  # for what was measured; empty: nothing is saved
    memory_note: str = ""  # the file for what a replica needs; empty: that is not noted
    gpu_uuid: str = ""
