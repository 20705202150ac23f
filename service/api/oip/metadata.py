"""What there is: the service, its models, their tensors, and the configuration in Triton's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.api import operations, schemas
from service.api.oip.answer import VERSION
from service.api.oip.by_task import signature_of
from service.api.oip.datatypes import BYTES
from service.api.oip.envelope import model_of
from service.api.oip.tensors import TensorSpec
from service.errors import Problem
from service.http.body import parse
from service.http.exchange import Exchange
from service.state import AppState

# Those of Triton's that are served here.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
)
_PLATFORM = "batcher"
_TYPES: Mapping[str, str] = {BYTES: "TYPE_STRING"}  # where it is not TYPE_ and the datatype


class OipServer(schemas.Shape):
    name: str
    version: str
    extensions: list[str]


class OipModels(schemas.Shape):
    models: list[str]


class OipTensor(schemas.Shape):
    name: str
    datatype: str
    shape: list[int]


class OipModel(schemas.Shape):
    name: str
    versions: list[str]
    platform: str
    inputs: list[OipTensor]
    outputs: list[OipTensor]


class OipIndexed(schemas.Shape):
    name: str
    version: str
    state: str
    reason: str


async def server(state: AppState, exchange: Exchange) -> None:
    told = {"name": _PLATFORM, "version": state.version, "extensions": EXTENSIONS}
    await exchange.answer(orjson.dumps(told))


async def models(state: AppState, exchange: Exchange) -> None:
    await exchange.answer(orjson.dumps({"models": state.model().names}))


async def model(state: AppState, exchange: Exchange) -> None:
    if exchange.path.endswith("/infer"):  # of a name that ends so, as the router sees it
        raise Problem(405, "this route takes OPTIONS, POST", headers={"allow": "OPTIONS, POST"})
    served = await model_of(state, exchange)
    signature = signature_of(served)
    told = {
        "name": served.name,
        "versions": [VERSION],
        "platform": _PLATFORM,
        "inputs": _described(signature.inputs),
        "outputs": _described(signature.outputs),
    }
    await exchange.answer(orjson.dumps(told))


async def config(state: AppState, exchange: Exchange) -> None:
    served = await model_of(state, exchange, "/config")
    signature, settings = signature_of(served), state.settings
    snapshot = await state.client.snapshot()
    on_gpu = any(replica.info.device.startswith("cuda") for replica in snapshot.replicas)
    told = {
        "name": served.name,
        "platform": _PLATFORM,
        "backend": _PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": state.input_limit,  # rows of one request
        "input": [_configured(each) for each in signature.inputs],
        "output": [_configured(each) for each in signature.outputs],
        "dynamic_batching": {
            "preferred_batch_size": [settings.max_batch_size],
            "max_queue_delay_microseconds": round(settings.max_wait_ms * 1e3),
        },
        "instance_group": [
            {
                "name": _PLATFORM,
                "kind": "KIND_GPU" if on_gpu else "KIND_CPU",
                "count": len(snapshot.replicas),
            }
        ],
    }
    await exchange.answer(orjson.dumps(told))


async def index(state: AppState, exchange: Exchange) -> None:
    """The models and their states."""
    only_ready = _only_ready(await exchange.json_or_bytes())
    _, reason = await operations.readiness(state)
    served = state.served
    names = served.names if served is not None else (state.settings.model_id,)
    listed = [
        {
            "name": name,
            "version": VERSION,
            "state": "READY" if reason is None else "LOADING" if served is None else "UNAVAILABLE",
            "reason": reason or "",
        }
        for name in names
        if reason is None or not only_ready
    ]
    await exchange.answer(orjson.dumps(listed))


def _only_ready(given: dict[str, Any] | bytes) -> bool:
    """No body is one without fields. Raises Problem 400."""
    if isinstance(given, bytes):
        given = parse(given) if given.strip() else {}
    ready = given.get("ready", False)
    if not isinstance(ready, bool):
        raise Problem(400, "ready: must be true or false")
    return ready


def _described(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": each.name, "datatype": each.datatype, "shape": each.shape} for each in specs]


def _configured(spec: TensorSpec) -> dict[str, Any]:
    """Without the dimension of the rows, as Triton writes it."""
    told: dict[str, Any] = {
        "name": spec.name,
        "data_type": _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"),
        "dims": spec.shape[1:],
    }
    if spec.is_optional:
        told["optional"] = True
    return told
