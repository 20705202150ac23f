"""Vectors, dense and sparse, beside those of sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from loadtests.checks.models.case import ALONE, QUERY, TEXTS, Case
from loadtests.checks.models.distance import ATOL, RTOL, Distance, Numbers, Wrong
from loadtests.checks.models.served import post


def dense_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = SentenceTransformer(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    if (wanted := case.settings.get("pooling", "auto")) != "auto":
        wanted = {"last": "lasttoken"}.get(wanted, wanted)
        [place] = [n for n, each in enumerate(model) if isinstance(each, Pooling)]
        old: Any = model[place]
        model[place] = Pooling(old.embedding_dimension, wanted)
    _prompt(model, case)
    chain = list(model)
    if isinstance(chain[-1], Normalize):
        chain = chain[:-1]
    bare = SentenceTransformer(
        modules=chain,
        device="cpu",
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
    )
    return bare.eval()


def _prompt(model: Any, case: Case) -> None:
    model.prompts |= json.loads(case.settings.get("prompts", "{}"))
    if (text := case.settings.get("prompt")) is not None:
        model.prompts["of the setting"] = text
        model.default_prompt_name = "of the setting"


def _encode(model: Any, text: str, options: Mapping[str, Any], **more: Any) -> Any:
    tokenizer, own = model.tokenizer, model.tokenizer.truncation_side
    tokenizer.truncation_side = (options.get("truncation_direction") or own).lower()
    normalize = more.pop("normalize", options.get("normalize", True))
    try:
        return model.encode(
            text,
            prompt_name=options.get("prompt_name"),
            normalize_embeddings=normalize,
            truncate_dim=options.get("dimensions"),
            show_progress_bar=False,
            **more,
        )
    finally:
        tokenizer.truncation_side = own


def fit(model: Any, info: Mapping[str, Any], run: Callable[[str], object]) -> None:
    """The library fails over the last position of some models, where the service cuts."""
    longest = max(TEXTS, key=len)
    try:
        run(longest)
    except (IndexError, RuntimeError):
        model.max_seq_length = info["max_input_length"]


def dense(
    case: Case, model: Any, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    options, texts = dict(case.options), case.texts
    fit(model, info, lambda text: _encode(model, text, options))
    expected = np.stack([_encode(model, text, options) for text in texts])
    together = post(http, "/embed", {"inputs": texts, **options})
    found.add("/embed", together, expected)
    for place in ALONE:
        alone = post(http, "/embed", {"inputs": texts[place], **options})
        found.add("/embed alone", alone[0], expected[place])
    of_openai = {name: options[name] for name in ("dimensions",) if name in options}
    data = post(http, "/v1/embeddings", {"input": texts[:8], **of_openai})["data"]
    right = [_encode(model, text, of_openai) for text in texts[:8]]
    found.add("/v1/embeddings", [each["embedding"] for each in data], right)
    some = [*texts[:6], *texts[-4:]]
    without = {k: v for k, v in options.items() if k not in ("normalize", "dimensions")}
    states = post(http, "/embed_all", {"inputs": some, **without})
    for text, got in zip(some, states, strict=True):
        right = _encode(model, text, without, normalize=False, output_value="token_embeddings")
        found.add("/embed_all", got, right.numpy())
    cosines = [_encode(model, text, without) for text in [QUERY, *some]]
    inputs = {"source_sentence": QUERY, "sentences": some}
    got = post(http, "/similarity", {"inputs": inputs, "parameters": without})
    found.add("/similarity", got, np.stack(cosines[1:]) @ cosines[0])
    given = {"normalize_embeddings": True, "show_progress_bar": False}
    query = model.encode_query(QUERY, **given)
    documents = [model.encode_document(text, **given) for text in some]
    ranked(found, http, some, np.stack(documents) @ query)


def ranked(found: Distance, http: TestClient, texts: Sequence[str], right: Any) -> None:
    body = {"query": QUERY, "texts": list(texts), "raw_scores": True}
    rows = post(http, "/rerank", body)
    scores = {row["index"]: row["score"] for row in rows}
    found.add("/rerank", [scores[place] for place in range(len(texts))], right)
    in_order = np.asarray([right[row["index"]] for row in rows])
    if (np.diff(in_order) > ATOL + RTOL * np.abs(in_order[1:])).any():
        raise Wrong("/rerank: another order")


def sparse_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    _prompt(model, case)
    return model


def sparse(
    case: Case, model: Any, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    options, texts = dict(case.options), case.texts

    def encode(text: str, given: Mapping[str, Any]) -> Any:
        own = model.tokenizer.truncation_side
        model.tokenizer.truncation_side = (given.get("truncation_direction") or own).lower()
        try:
            return model.encode(
                text,
                prompt_name=given.get("prompt_name"),
                convert_to_sparse_tensor=False,
                show_progress_bar=False,
            ).numpy()
        finally:
            model.tokenizer.truncation_side = own

    fit(model, info, lambda text: encode(text, options))
    expected = np.stack([encode(text, options) for text in texts])
    width = expected.shape[1]
    rows = post(http, "/embed_sparse", {"inputs": texts, **options})
    found.add("/embed_sparse", [filled(row, width) for row in rows], expected)
    for place in ALONE:
        [row] = post(http, "/embed_sparse", {"inputs": texts[place], **options})
        found.add("/embed_sparse alone", filled(row, width), expected[place])
    given = {"convert_to_sparse_tensor": False, "show_progress_bar": False}
    query = model.encode_query(QUERY, **given).numpy()
    documents = [model.encode_document(text, **given).numpy() for text in texts[:12]]
    ranked(found, http, texts[:12], np.stack(documents) @ query)


def filled(row: Sequence[Mapping[str, Any]], width: int) -> Numbers:
    made = np.zeros(width)
    for each in row:
        made[each["index"]] = each["value"]
    return made
