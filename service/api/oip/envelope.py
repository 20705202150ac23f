"""What the routes of Open Inference V2 have in common: errors, and which model a path names."""

from __future__ import annotations

from service.api import schemas
from service.api.oip.answer import VERSION
from service.api.openai import check_model
from service.catalog import ServedModel
from service.errors import ErrorFormat, Problem, quote
from service.http.exchange import Exchange
from service.state import AppState

MODELS = "/v2/models/"


class OipError(schemas.Shape):
    error: str
    code: str
    request_id: str


def envelope(problem: Problem, request_id: str) -> dict[str, object]:
    return {"error": problem.message, "code": problem.code, "request_id": request_id}


# Triton answers 400 to all that is wrong with a request.
ERRORS = ErrorFormat(
    envelope, statuses=dict.fromkeys(("empty", "too_many_inputs", "unacceptable_input"), 400)
)


async def model_of(state: AppState, exchange: Exchange, verb: str = "") -> ServedModel:
    """The model of `/v2/models/NAME[/versions/VERSION]VERB`. Raises NotReady, Problem 404."""
    served = await state.decide() or state.model()
    rest = exchange.path[len(MODELS) : len(exchange.path) - len(verb)]
    name, is_versioned, version = rest.rpartition("/versions/")
    if not is_versioned:
        name = rest
    if not name:
        raise Problem(404, "the path names no model; GET /v2/models lists them", param="model")
    check_model(served, name)
    if is_versioned and version != VERSION:
        raise Problem(
            404,
            f"version: there is no {quote(version, 40)} of {served.name}; there is {VERSION!r}",
            param="version",
            code="model_not_found",
        )
    return served
