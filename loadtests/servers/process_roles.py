"""Which process of a running service is which, told by who started whom: not by any name."""

import json
from dataclasses import dataclass

from loadtests.servers import procfs as processes
from loadtests.servers.launch import Server


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
    return Family(top, engine, (top,) if engine == top else fronts(top, engine), workers)


def fronts(top: int, engine: int) -> tuple[int, ...]:
    """Those that live just now. Asks nobody, so that nothing waits for the answer."""
    children = [pid for pid in processes.tree(top) if processes.parent(pid) == top]
    return tuple(pid for pid in children if pid != engine and not _is_tracker(pid))


def _is_tracker(pid: int) -> bool:
    """Python's own, that multiprocessing starts beside its children."""
    return "resource_tracker" in processes.command(pid)
