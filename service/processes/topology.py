"""How many processes: one, or a supervisor with an engine and some frontends."""

from __future__ import annotations

from dataclasses import dataclass

from service.placement.cores import available_cores
from service.settings import BadSetting, Settings

_CORES_EACH = 4  # with `auto` one frontend for so many; the others are the model's
_MOST = 8


@dataclass(frozen=True, slots=True)
class Topology:
    frontends: int
    is_alone: bool  # the one frontend and the engine are one process

    @classmethod
    def of(cls, settings: Settings) -> Topology:
        """Raises BadSetting for a choice that cannot be."""
        given = settings.frontends
        frontends = frontends_for(available_cores()) if given == "auto" else given
        if settings.engine == "inline" and frontends > 1:
            if given != "auto":
                raise BadSetting(
                    "BATCHER_ENGINE='inline': several HTTP processes"
                    f" (BATCHER_FRONTENDS={frontends}) need the engine in a process of its own"
                )
            frontends = 1
        return cls(frontends, is_alone=frontends == 1 and settings.engine != "process")


def frontends_for(cores: int) -> int:
    """Below 8 cores a second frontend would take from the model what it adds."""
    return min(_MOST, cores // _CORES_EACH) if cores >= 2 * _CORES_EACH else 1
