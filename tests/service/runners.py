"""Runners of the user's own that never come up. Light: a worker imports this file."""

from __future__ import annotations

import os
import threading


class NeverReady:
    """Loads for ever."""

    def __init__(self, config: object) -> None:
        pass

    def warm_up(self) -> dict[str, object]:
        print(f"warming up for ever in {os.getpid()}", flush=True)
        threading.Event().wait()
        return {}


class NeverLoads:
    """Its model is broken."""

    def __init__(self, config: object) -> None:
        raise RuntimeError("the weights\nare not there")


class Exits:
    """Takes its whole process along."""

    def __init__(self, config: object) -> None:
        pass

    def warm_up(self) -> dict[str, object]:
        os._exit(9)
