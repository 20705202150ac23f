"""The answer to a request for inference: JSON, and binary data behind it where that was asked for;
compressed where that was."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from batcher import RunnerFailed
from service.api.oip.datatypes import to_bytes
from service.api.oip.request import InferRequest, WantedOutput
from service.api.oip.tensors import Output
from service.errors import Header
from service.tasks.embed import LARGE

VERSION = "1"  # of every model
HEADER_LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
_WINDOWS = {b"gzip": 31, b"deflate": 15}  # zlib's names for them
_LEVEL = 1  # numbers compress little, at any level


async def encode(
    name: str, request: InferRequest, outputs: Mapping[str, Output]
) -> tuple[bytes, Sequence[Header], bytes]:
    """The body, its headers, and its media type. Raises RunnerFailed."""
    described, binary = [], []
    for wanted in request.outputs:
        output = outputs[wanted.spec.name]
        if wanted.classes:
            output = _classes(output, wanted)
        tensor: dict[str, object] = {
            "name": wanted.spec.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        if wanted.is_binary:
            binary.append(to_bytes(output.values))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = await _data(output.values, wanted.spec.name)
        described.append(tensor)
    told: dict[str, object] = {"model_name": name, "model_version": VERSION}
    if request.id is not None:
        told["id"] = request.id
    head = orjson.dumps({**told, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return head, (), b"application/json"
    return b"".join((head, *binary)), ((HEADER_LENGTH, b"%d" % len(head)),), OCTETS


def coding_for(headers: Mapping[bytes, bytes]) -> bytes | None:
    """What to compress an answer with. Only for who asks for nothing else, as Triton's clients do:
    HTTP libraries offer all that they know, and numbers are not worth the time."""
    wanted = headers.get(b"accept-encoding", b"").strip().lower()
    return wanted if wanted in _WINDOWS else None


def compress(body: bytes, coding: bytes) -> bytes:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[coding])
    return stream.compress(body) + stream.flush()


async def _data(values: NDArray[Any] | Sequence[bytes | str], name: str) -> object:
    """All in a row. Raises RunnerFailed for what JSON cannot say."""
    if not isinstance(values, np.ndarray):
        try:
            return [each if isinstance(each, str) else each.decode() for each in values]
        except UnicodeDecodeError:
            raise RunnerFailed(f"{name} is no text: ask for it as binary data") from None
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise RunnerFailed(f"{name} holds NaN or infinity: ask for it as binary data")
    if flat.dtype == np.float16:  # which the writer of JSON does not know
        flat = flat.astype(np.float32)
    if flat.size <= LARGE:
        return flat
    pieces = []
    for start in range(0, flat.size, LARGE):
        part = flat[start : start + LARGE]
        pieces.append(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        await asyncio.sleep(0)  # the event loop does what else there is
    return orjson.Fragment(b"[" + b",".join(pieces) + b"]")


def _classes(output: Output, wanted: WantedOutput) -> Output:
    """For each row `value:index:label` of the highest; of equal ones the earlier is first."""
    assert isinstance(output.values, np.ndarray)
    rows = output.values.reshape(output.shape[0], -1)
    count = min(wanted.classes, rows.shape[1])
    labels = wanted.spec.labels
    is_float = rows.dtype.kind == "f"
    texts = []
    for row in rows:
        for place in np.argsort(-row, kind="stable")[:count].tolist():
            label = f":{labels[place]}" if labels else ""
            texts.append(f"{row[place]:{'.6f' if is_float else ''}}:{place}{label}")
    return Output((len(rows), count), texts)
