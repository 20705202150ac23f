"""POST /v2/models/{model}/infer: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping

from service.api.oip.answer import HEADER_LENGTH, coding_for, compress, encode
from service.api.oip.by_task import signature_of
from service.api.oip.envelope import model_of
from service.api.oip.request import InferRequest, read
from service.errors import Problem, quote
from service.http.body import LARGE, weigh
from service.http.exchange import Exchange
from service.http.headers import MAX_TIMEOUT_MS, TIMEOUT
from service.state import AppState

_MOST_DIGITS = 18


async def infer(state: AppState, exchange: Exchange) -> None:
    """A row of the first dimension is one input of the engine."""
    served = await model_of(state, exchange, "/infer")
    signature = signature_of(served)
    data = await exchange.read()
    size = _json_size(exchange.headers, len(data))
    arguments = (data, size, signature, state.input_limit)
    if len(data) <= LARGE:
        request = read(*arguments, state.fields)
    else:
        await weigh(exchange, data[:size])
        deadline = exchange.started + exchange.timeout
        request = await state.offload.run(
            deadline, read, *arguments, state.fields, caller=exchange.caller
        )
    _set_timeout(exchange, request)
    asked, parameters = request.asked, request.parameters
    results = await state.pipeline.run(
        exchange, asked.task, asked.rows, asked.field, parameters.options, parameters.urgency
    )
    body, headers, media = await encode(served.name, request, asked.outputs(results.values))
    if (coding := coding_for(exchange.headers)) is not None:
        if len(body) <= LARGE:
            body = compress(body, coding)
        else:
            deadline = exchange.started + exchange.timeout
            body = await state.offload.run(deadline, compress, body, coding, caller=exchange.caller)
        headers = (*headers, (b"content-encoding", coding))
    timing = state.pipeline.timing(exchange, results)
    await exchange.answer(body, *headers, timing, media=media)


def _json_size(headers: Mapping[bytes, bytes], size: int) -> int | None:
    """Of a body of that size, after decoding. Raises Problem 400."""
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return None
    text = given.decode("latin-1")
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= size:
        return int(text)
    raise Problem(
        400,
        "Inference-Header-Content-Length: must be the bytes of JSON at the beginning of the body,"
        f" which has {size}, not {quote(text, 40)}",
        param="Inference-Header-Content-Length",
    )


def _set_timeout(exchange: Exchange, request: InferRequest) -> None:
    wanted = request.parameters.timeout
    if wanted:
        seconds = min(wanted / 1e6, MAX_TIMEOUT_MS / 1e3)
        is_named = TIMEOUT in exchange.headers
        exchange.timeout = min(seconds, exchange.timeout) if is_named else seconds
