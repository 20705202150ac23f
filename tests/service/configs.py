"""A RunnerConfig from flat names, each of which only one of its parts has."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from service.models.config import ModelConfig, RunnerConfig, SimulatedConfig
from service.placement.replica_count import Placement


def runner_config(model: str = "m", **given: Any) -> RunnerConfig:
    """`sim_fixed_ms` and the like are the simulated accelerator's."""

    def take(kind: type, prefix: str = "") -> dict[str, Any]:
        names = {prefix + field.name: field.name for field in fields(kind)}
        return {names[name]: given.pop(name) for name in list(given) if name in names}

    simulated = SimulatedConfig(**take(SimulatedConfig, "sim_"))
    placement = Placement(**{"device": "auto", **take(Placement)})
    return RunnerConfig(
        ModelConfig(model, **take(ModelConfig)), placement, simulated=simulated, **given
    )
