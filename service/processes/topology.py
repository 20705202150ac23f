"""How many processes: one, or a supervisor with an engine and some fronts."""

from __future__ import annotations

from dataclasses import dataclass

from service.placement.cores import available_cores
from service.settings import BadSetting, Settings

_CORES_EACH = 4  # with `auto` one front for so many; the others are the model's
_MOST = 8


@dataclass(frozen=True, slots=True)
class Topology:
    fronts: int
    is_alone: bool  # the one front and the engine are one process

    @classmethod
    def of(cls, settings: Settings) -> Topology:
        """Raises BadSetting for a choice that cannot be."""
        given = settings.frontends
        fronts = fronts_for(available_cores()) if given == "auto" else given
        if settings.engine == "inline" and fronts > 1:
            if given != "auto":
                raise BadSetting(
                    f"BATCHER_ENGINE='inline': several HTTP processes (BATCHER_FRONTENDS={fronts})"
                    " need the engine in a process of its own"
                )
            fronts = 1
        return cls(fronts, is_alone=fronts == 1 and settings.engine != "process")


def fronts_for(cores: int) -> int:
    """Below 8 cores a second front would take from the model what it adds."""
    return min(_MOST, cores // _CORES_EACH) if cores >= 2 * _CORES_EACH else 1
