"""What the terminal says once the service is ready: what runs, where, and a call to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from batcher import ReplicaSnapshot, Snapshot
from batcher.runner import RunnerInfo
from batcher.scheduling.replica_model import MOST_TOKENS
from service.catalog import ServedModel
from service.settings import Settings
from service.tasks.classify import Classify
from service.tasks.score import Score
from service.tasks.tag import Tag
from service.version import VERSION

_SHOWN = 8  # replicas
# An image of one white pixel.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N"
    "70a4AAAAAElFTkSuQmCC"
)


def banner(
    settings: Settings, served: ServedModel, snapshot: Snapshot, port: int, frontends: int = 0
) -> str:
    """`port`: where it listens, if not on a unix socket. `frontends`: HTTP processes beside the
    engine's; 0: it is all one."""
    info = next((replica.info for replica in snapshot.replicas if replica.up), RunnerInfo())
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"
    scheme = "http" if settings.tls_cert is None else "https"
    url, over = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", ""
    shown = f"{url}  (docs: {url}/docs)"
    if settings.unix_socket is not None:
        url, over = f"{scheme}://localhost", f" --unix-socket {shlex.quote(settings.unix_socket)}"
        shown = f"the unix socket {settings.unix_socket}"
    up = sum(replica.up for replica in snapshot.replicas)
    rows = {
        "model": served.name,
        "runs on": _place(info, settings),
        "answers": _answers(served, info),
        **({"prompts": told} if (told := _prompts(served)) else {}),
        "batches": f"up to {settings.max_batch_size} inputs or {_tokens(settings, snapshot)};"
        f" at most {settings.max_queue_size} inputs wait",
        "replicas": f"{up} of {len(snapshot.replicas)} up, isolation {settings.isolation}"
        + _places(snapshot.replicas),
        **({"stages": _stages(snapshot)} if snapshot.stages else {}),
        **({"processes": f"{frontends} for HTTP, 1 for the engine"} if frontends else {}),
        "url": shown,
    }
    route, body = _example(served)
    key = " -H 'Authorization: Bearer <key>'" if settings.api_key else ""
    curl = (
        f"curl{over} {url}{route} -H 'Content-Type: application/json'{key} -d '{json.dumps(body)}'"
    )
    lines = [f"  {name:<9} {value}" for name, value in rows.items()]
    return "\n".join(["", f"batcher {VERSION} is ready", "", *lines, "", f"  {curl}", ""])


def _place(info: RunnerInfo, settings: Settings) -> str:
    """Of a runner of the user's own: its name, and what it tells of itself."""
    own = [settings.runner] if settings.runner not in ("transformers", "simulated") else []
    backend = f"backend {info.backend}" if info.backend else ""
    known = [each for each in (info.device, info.dtype, backend) if each]
    return ", ".join([*own, *known]) or "?"


def _answers(served: ServedModel, info: RunnerInfo) -> str:
    limit = f", at most {served.max_length} tokens" if served.max_length else ""
    if Score.name in served.tasks:
        return f"the relevance of texts to a query{limit}"
    classify = served.tasks.get("classify")
    if isinstance(classify, Classify):
        of = " for an image" if "image-classify" in served.tasks else ""
        also = "; which labels of a caller's fit a text" if "zero-shot" in served.tasks else ""
        return f"scores of {_listed(classify.labels)}{of}{limit}{also}"
    tag = served.tasks.get("tag")
    if isinstance(tag, Tag):
        return f"entities, or the label of each token, out of {_listed(tag.labels)}{limit}"
    if "sparse" in served.tasks:
        return f"sparse vectors, weights of {served.dimension} words{limit}"
    if "predict" in served.tasks:
        return "what the runner answers, as JSON: POST /v1/predict"
    of = " for images and texts" if "image-embed" in served.tasks else ""
    return f"vectors of {served.dimension or info.dimension or '?'} numbers{of}{limit}"


def _prompts(served: ServedModel) -> str:
    """The names of those that say something."""
    default = served.default_prompt_name
    return ", ".join(
        f"{name} (the default)" if name == default else name
        for name, text in served.prompts.items()
        if text
    )


def _listed(labels: Sequence[str]) -> str:
    names = ", ".join(labels[:_SHOWN]) + (", …" * (len(labels) > _SHOWN))
    return f"{len(labels)} labels ({names})"


def _example(served: ServedModel) -> tuple[str, dict[str, object]]:
    """A route, and a body for it."""
    if "embed" in served.tasks and not served.is_own:
        return "/v1/embeddings", {"model": served.name, "input": "Good morning!"}
    if "image-classify" in served.tasks:
        return "/predict", {"inputs": _PIXEL}
    if Score.name in served.tasks:
        return "/rerank", {"query": "What do whales eat?", "texts": ["Krill.", "It rained."]}
    if "tag" in served.tasks:
        return "/", {"inputs": "Ada lives in Lisbon.", "parameters": {}}
    route = "/predict" if "classify" in served.tasks else "/v1/predict"
    if "sparse" in served.tasks:
        route = "/embed_sparse"
    if "embed" in served.tasks and "predict" not in served.tasks:
        route = "/embed"
    return route, {"inputs": ["Good morning!"]}


def _places(replicas: Sequence[ReplicaSnapshot]) -> str:
    """One after the other, where there are several and it is known."""
    infos = [each.info for each in replicas]
    if len(infos) < 2 or not any(each.placed_on for each in infos):
        return ""
    places = [
        (each.placed_on or "not up yet") + (f" cores {each.cores}" if each.cores else "")
        for each in infos
    ]
    shown = ", ".join(places[:_SHOWN])
    return f": {shown}" + (", …" if len(places) > _SHOWN else "")


def _stages(snapshot: Snapshot) -> str:
    names = " and ".join(name for name in snapshot.stages if name != "predict")
    count = len(snapshot.cpu_workers)
    return f"{names} in {count} CPU process{'es' * (count > 1)}"


def _tokens(settings: Settings, snapshot: Snapshot) -> str:
    if settings.max_batch_tokens is not None:
        return f"{settings.max_batch_tokens} tokens"
    learned = " / ".join(sorted({str(each.max_batch_tokens) for each in snapshot.replicas}))
    return f"{learned} tokens (by the device's profile, at most {MOST_TOKENS})"
