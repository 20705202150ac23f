"""vLLM's routes for models that do not generate: scores, classes, and what the model's head gives.

Its POST /rerank is in service/api/rerank/. Source: vllm-project/vllm, vllm/entrypoints/pooling/.
"""

from __future__ import annotations

from service.api import openai, schemas
from service.api.routes import WireProtocol
from service.api.vllm import classify, pooling, score
from service.errors import ErrorFormat

# vLLM answers 400 to all that is wrong with a body.
ERRORS = ErrorFormat(
    openai.envelope,
    statuses=dict.fromkeys(("empty", "too_many_inputs", "unacceptable_input"), 400),
    codes={"wrong_task": "model_not_supported"},
)

PROTOCOL = WireProtocol(ERRORS, schemas.OpenAIError, (*score.ROUTES, classify.ROUTE, pooling.ROUTE))
