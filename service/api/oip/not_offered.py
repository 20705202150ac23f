"""Extensions of Triton's that are not served here: their routes answer 501 and say why."""

from __future__ import annotations

from typing import Literal

from service.api.routes import ANY_ROUTE, Endpoint, Route
from service.errors import Problem
from service.http.exchange import Exchange
from service.state import AppState

_LOADING = "models are loaded when the service starts (BATCHER_MODEL), and stay"
_MEMORY = "shared memory is not offered: send tensors in the body"
_TRACE = "tracing is not set by clients"
_LOG = "the log is set when the service starts (BATCHER_LOG_LEVEL, BATCHER_LOG_FORMAT)"


def _route(method: Literal["GET", "POST"], path: str, why: str) -> Route:
    return Route(method, path, _refusing(why), f"501: {why}", {}, (*ANY_ROUTE, 501))


def _refusing(why: str) -> Endpoint:
    async def refuse(state: AppState, exchange: Exchange) -> None:
        raise Problem(501, why)

    return refuse


_BOTH: tuple[Literal["GET", "POST"], ...] = ("GET", "POST")
ROUTES = (
    _route("POST", "/v2/repository/models/{asked}", _LOADING),
    *(_route(method, "/v2/systemsharedmemory/{asked}", _MEMORY) for method in _BOTH),
    *(_route(method, "/v2/cudasharedmemory/{asked}", _MEMORY) for method in _BOTH),
    *(_route(method, "/v2/models/{model}/trace/setting", _TRACE) for method in _BOTH),
    *(_route(method, "/v2/trace/setting", _TRACE) for method in _BOTH),
    *(_route(method, "/v2/logging", _LOG) for method in _BOTH),
)
