"""Token ids in place of texts, as OpenAI's API takes them: by which vocabulary they are read."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import InputError
from service.http.exchange import Exchange
from service.state import AppState
from service.tasks.cl100k import Cl100k
from service.tasks.text_inputs import MANY_IDS, TextInput

_REFUSED = (
    "token ids are not taken: those of another vocabulary than the model's would be answered with"
    " wrong vectors. Send texts (LangChain: check_embedding_ctx_length=False), or say whose ids"
    " they are with BATCHER_TOKEN_IDS: model, or cl100k for those of OpenAI's embedding models"
)


async def read_ids(
    state: AppState, exchange: Exchange, inputs: Sequence[TextInput], field: str
) -> Sequence[TextInput]:
    """The inputs as the model's tokenizer is to be given them. Raises InputError."""
    ids = sum(len(one) for one in inputs if not isinstance(one, str))
    if not ids or state.settings.token_ids == "model":
        return inputs
    table = state.model().cl100k
    if table is None:
        raise InputError(_REFUSED, field=field, kind="invalid_request")
    if ids <= MANY_IDS:
        return _texts(table, inputs, field)
    deadline = exchange.started + exchange.timeout
    return await state.offload.run(deadline, _texts, table, inputs, field, caller=exchange.caller)


def _texts(table: Cl100k, inputs: Sequence[TextInput], field: str) -> list[TextInput]:
    """Raises InputError."""
    texts: list[TextInput] = []
    for place, one in enumerate(inputs):
        try:
            texts.append(one if isinstance(one, str) else table.text(one))
        except InputError as error:
            raise error.at(f"{field}[{place}]" if len(inputs) > 1 else field) from None
    return texts
