"""Scores of texts, pairs and tokens beside those of CrossEncoder and of transformers' pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from loadtests.checks.models.case import ALONE, QUERY, Case
from loadtests.checks.models.distance import Distance, ReferenceFails, Wrong
from loadtests.checks.models.served import post
from loadtests.checks.models.vectors import fit, ranked

NAMES = ("dogs", "a river", "x")  # of a zero-shot classification


def cross_reference(case: Case, at: Path) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )


def scores(
    case: Case, model: Any, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    import torch

    texts = case.texts
    identity = torch.nn.Identity()

    def predict(query: str, text: str) -> float:
        [score] = model.predict(
            [(query, text)], activation_fn=identity, show_progress_bar=False
        ).reshape(-1)
        return float(score)

    fit(model, info, lambda text: predict(QUERY, text))
    query = str(case.settings.get("prompt", "")) + QUERY
    expected = np.array([predict(query, text) for text in texts])
    if np.ptp(expected) < 1e-3:
        raise Wrong("the reference tells no text from another: this tests nothing")
    ranked(found, http, texts, expected)
    for place in ALONE:
        ranked(found, http, [texts[place]], expected[[place]])
    rows = post(http, "/rerank", {"query": QUERY, "texts": texts})
    scores = {row["index"]: row["score"] for row in rows}
    squashed = 1 / (1 + np.exp(-expected))
    found.add("/rerank, sigmoid", [scores[n] for n in range(len(texts))], squashed)
    pairs = [[QUERY, text] for text in texts[:5]]
    told = post(http, "/predict", {"inputs": pairs, "raw_scores": True})
    found.add("/predict", [row[0]["score"] for row in told], expected[:5])


class Pipeline:
    """transformers' own, whose limit can be set."""

    def __init__(self, task: str, at: Path, **given: Any) -> None:
        import torch
        import transformers

        self.run: Any = transformers.pipeline(
            task, str(at), device=-1, dtype=torch.float32, **given
        )
        self.max_seq_length: int | None = None


def classes(
    case: Case, made: Any, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    texts = case.texts

    def scores(text: Any, function: str | None = None) -> dict[str, float]:
        cut = {"truncation": True, "max_length": info["max_input_length"]}
        told = made.run(text, top_k=None, function_to_apply=function, **cut)
        return {each["label"]: each["score"] for each in told}

    labels = sorted(made.run.model.config.id2label.values())

    def ours(rows: Any) -> list[float]:
        told = {each["label"]: each["score"] for each in rows}
        return [told[label] for label in labels]

    expected = [[row[label] for label in labels] for row in map(scores, texts)]
    rows = post(http, "/", {"inputs": texts, "parameters": {"top_k": 99}})
    found.add("POST /", [ours(row) for row in rows], expected)
    for place in ALONE:
        [row] = post(http, "/", {"inputs": texts[place], "parameters": {"top_k": 99}})
        found.add("POST / alone", ours(row), expected[place])
    raw = [[scores(text, "none")[label] for label in labels] for text in texts[:9]]
    body = {"inputs": [[text] for text in texts[:9]], "raw_scores": True}
    found.add("/predict", [ours(row) for row in post(http, "/predict", body)], raw)
    pairs = [(QUERY, text) for text in texts[:9]]
    raw = [
        [scores({"text": one, "text_pair": other}, "none")[label] for label in labels]
        for one, other in pairs
    ]
    body = {"inputs": [list(pair) for pair in pairs], "raw_scores": True}
    found.add("/predict, pairs", [ours(row) for row in post(http, "/predict", body)], raw)
    if any(label.lower().startswith("entail") for label in labels):
        _zero_shot(made, texts[:9], http, info, found)


def _zero_shot(
    made: Pipeline, texts: list[str], http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    import transformers

    told = made.run
    told.tokenizer.model_max_length = info["max_input_length"]
    right = transformers.ZeroShotClassificationPipeline(told.model, tokenizer=told.tokenizer)
    for multi in (False, True):
        asked = {"multi_label": multi, "hypothesis_template": "It is about {}."}
        for text in texts:
            expected = right(text, candidate_labels=list(NAMES), **asked)
            parameters = {"candidate_labels": list(NAMES), **asked}
            rows = post(http, "/", {"inputs": text, "parameters": parameters})
            ours = {each["label"]: each["score"] for each in rows}
            theirs = dict(zip(expected["labels"], expected["scores"], strict=True))
            found.add(
                f"POST /, zero-shot, multi_label {multi}",
                *([e[n] for n in NAMES] for e in (ours, theirs)),
            )


def tags(case: Case, made: Any, http: TestClient, info: Mapping[str, Any], found: Distance) -> None:
    texts = case.texts
    made.run.tokenizer.model_max_length = info["max_input_length"]
    short = [text for text in texts if len(text) < 50]
    for strategy in ("none", "simple", "first", "average", "max"):
        try:
            expected = [made.run(text, aggregation_strategy=strategy) for text in short]
        except (ValueError, TypeError) as error:
            raise ReferenceFails(str(error)) from error
        parameters = {"aggregation_strategy": strategy}
        rows = post(http, "/", {"inputs": short, "parameters": parameters})
        for text, got, right in zip(short, rows, expected, strict=True):
            names = ("entity", "entity_group", "start", "end")
            spans = [[{k: each.get(k) for k in names} for each in told] for told in (got, right)]
            if spans[0] != spans[1]:
                raise Wrong(f"POST / {strategy} of {text!r}: {spans[0]}, not {spans[1]}")
            scores = [[float(each["score"]) for each in told] for told in (got, right)]
            found.add(f"POST /, {strategy}", *scores)


def classes_reference(case: Case, at: Path) -> Any:
    return Pipeline("text-classification", at)


def tags_reference(case: Case, at: Path) -> Any:
    return Pipeline("token-classification", at)
