"""vLLM's routes for models that do not generate: scores, classes, and what the model's head gives.

Its POST /rerank is in service/api/rerank/. Source: vllm-project/vllm, vllm/entrypoints/pooling/.
"""

from __future__ import annotations

from dataclasses import replace

from service.api import fields, openai, schemas
from service.api.routes import WireProtocol
from service.api.vllm import classify, pooling, score

ERRORS = replace(openai.ERRORS, fields=fields.VLLM_NAMES)

PROTOCOL = WireProtocol(ERRORS, schemas.OpenAIError, (*score.ROUTES, classify.ROUTE, pooling.ROUTE))
