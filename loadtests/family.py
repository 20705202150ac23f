"""Which process of a running service is which, told by who started whom: not by any name."""

import json
from dataclasses import dataclass

from loadtests import processes
from loadtests.servers import Server


@dataclass(frozen=True, slots=True)
class Family:
    """Pids. With everything but the workers in one process, that is `top`, `engine` and the only
    one of `fronts`."""

    top: int
    engine: int
    fronts: tuple[int, ...]
    workers: tuple[int, ...]


def family(server: Server) -> Family:
    """Raises RuntimeError while no worker is up."""
    status, body = server.get("/stats")
    if status != 200:
        raise RuntimeError(f"/stats answered {status}")
    facts = [replica["facts"] for replica in json.loads(body)["replicas"]]
    workers = tuple(int(fact["pid"]) for fact in facts if "pid" in fact)
    if not workers:
        raise RuntimeError("no worker is up")
    top = server.process.pid
    engine = processes.parent(workers[0])
    others = [pid for pid in processes.tree(top) if processes.parent(pid) == top]
    fronts = [pid for pid in others if pid != engine and not _is_tracker(pid)]
    return Family(top, engine, (top,) if engine == top else tuple(fronts), workers)


def _is_tracker(pid: int) -> bool:
    """Python's own, that multiprocessing starts beside its children."""
    return "resource_tracker" in processes.command(pid)
