"""What a worker is told of its runner. Plain data: a frontend and a worker both import it."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.placement.replica_count import Placement


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model, and how its forward pass is to run."""

    model: str  # hub id or folder
    task: str = "auto"
    revision: str | None = None  # on the hub
    pooling: str = "auto"
    trust_remote_code: bool = False
    dtype: str = "auto"
    backend: str = "torch"  # auto (the service's default), torch, onnx, openvino
    compile: bool = False  # torch only
    max_batch_size: int = 64  # what to prepare for; a larger batch must run, too
    min_cosine: float | None = None  # to float32, of a reduced precision; None: by the dtype
    float32_blocks: tuple[str, ...] = ()  # of a reduced precision; accuracy.py fills this in
    profile: bool = False  # measure how long batches take, before the first one
    cache_dir: str = ""  # for what was measured; empty: nothing is saved


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """How long a batch takes on the simulated accelerator."""

    fixed_ms: float = 2.0
    per_item_ms: float = 0.02
    per_token_us: float = 0.0


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """What the constructor of a runner is given. One of the user's own may rely on the properties
    and on `replica` and `replicas`; the rest is for those that come with the service."""

    settings: ModelConfig
    placement: Placement = field(default_factory=lambda: Placement("auto"))
    replica: int = 0  # its number
    replicas: int = 1
    simulated: SimulatedConfig = field(default_factory=SimulatedConfig)
    max_output_bytes: int = 0  # of a model of the user's own; 0: no limit
    has_stages: bool = False  # CPU processes preprocess and postprocess

    @property
    def model(self) -> str:
        return self.settings.model

    @property
    def task(self) -> str:
        return self.settings.task

    @property
    def device(self) -> str:
        """cpu, or cuda:1; auto: that is up to the runner."""
        return self.placement.device

    @property
    def dtype(self) -> str:
        return self.settings.dtype

    @property
    def threads(self) -> int:
        """0: that is up to the runner."""
        return self.placement.threads

    @property
    def cores(self) -> tuple[int, ...]:
        """The only ones that it runs on; empty: any."""
        return self.placement.cores

    @property
    def max_batch_size(self) -> int:
        return self.settings.max_batch_size
