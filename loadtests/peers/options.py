"""What a server under test is told, in environment variables: some start processes of their own."""

import os
from dataclasses import asdict, dataclass

LOADS = ("simulated", "default")
PREFIX = "PEER_"


@dataclass(frozen=True, slots=True)
class Options:
    """The same for every server of a comparison, but for the port."""

    port: int = 8000
    load: str = "default"  # One of LOADS: the default model, or the simulated accelerator.
    threads: int = 2  # CPU threads of a forward pass.
    max_batch: int = 64
    max_wait_ms: float = 2.0
    sim_fixed_ms: float = 2.0
    sim_per_item_ms: float = 0.02

    @classmethod
    def from_environment(cls) -> "Options":
        """Raises KeyError where the harness did not start this process."""
        found = {name: os.environ[PREFIX + name.upper()] for name in cls.__slots__}
        return cls(
            port=int(found["port"]),
            load=found["load"],
            threads=int(found["threads"]),
            max_batch=int(found["max_batch"]),
            max_wait_ms=float(found["max_wait_ms"]),
            sim_fixed_ms=float(found["sim_fixed_ms"]),
            sim_per_item_ms=float(found["sim_per_item_ms"]),
        )

    def environment(self) -> dict[str, str]:
        return {PREFIX + name.upper(): str(value) for name, value in asdict(self).items()}
