"""Is an answer right? Judged by the body that was sent, read by Python's own JSON and zlib, and by
what the simulated accelerator makes of each text. Knows nothing of how the service reads a body.

Of images and of entities only as much is known as shows without decoding or tokenising anew: how
many there are, and where they are.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.fuzz.mutations import Mutant
from loadtests.fuzz.seeds import INFER, LABELS, MODEL
from service.models.simulated import DIMENSION, answers

Numbers = NDArray[np.float32]
Body = dict[str, Any]

_INDEX = "/v2/repository/index"
_NEAR = 1e-4
_PAIRED = "\x1f"  # between the texts of a pair, the second first
_SIDES = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)


class Wrong(Exception):
    """Says what is wrong with an answer."""


def fault(mutant: Mutant, status: int, answer: bytes) -> str | None:
    """None: no input may be answered better, or it is not known here."""
    if mutant.path == INFER and status in (501, 504):
        return None  # for a sequence, and for a timeout in the body
    if not 200 <= status < 500:
        return "no input may cause this"
    try:
        told = json.loads(answer)
    except ValueError:
        return "the answer is no JSON"
    if status != 200:
        return None if isinstance(told, dict) else "the error has no envelope"
    try:
        _check(mutant, told)
    except Wrong as error:
        return str(error)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return f"the body does not ask for this answer: {error!r}"
    return None


def _check(mutant: Mutant, told: Any) -> None:
    data = _decoded(mutant)
    if mutant.task.startswith("image") and not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return
    if mutant.path == _INDEX and not data.strip():
        return
    try:
        asked = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise Wrong(f"the body is no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise Wrong("the body is no object")
    _route(mutant.task, mutant.path, asked, told)


def _decoded(mutant: Mutant) -> bytes:
    try:
        match mutant.coding:
            case "gzip":
                return gzip.decompress(mutant.body)
            case "deflate":
                return _inflated(mutant.body)
    except (OSError, EOFError, zlib.error) as error:
        raise Wrong(f"the body is not what Content-Encoding says: {error}") from None
    return mutant.body


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:  # without its header, as some clients send it
        return zlib.decompress(data, -zlib.MAX_WBITS)


def _route(task: str, path: str, asked: Body, told: Any) -> None:
    if path == "/vertex":
        instances, predictions = asked["instances"], told["predictions"]
        _count(predictions, len(instances))
        for body, answer in zip(instances, predictions, strict=True):
            _route(task, "/", body, answer)
    elif path == "/api/show":
        _is("capabilities", told["capabilities"], ["embedding"])
    elif path in ("/", "/invocations"):
        _of_hub(task, asked, told)
    elif path == "/v1/predict":
        _is("outputs", told["outputs"], asked["inputs"])
    elif path == _INDEX:
        _is("names", [one["name"] for one in told], [MODEL])
    elif task.startswith("image"):
        pass
    elif path == INFER:
        _tensors(task, asked, told)
    elif path in _VECTORS:
        _VECTORS[path](asked, told)
    elif path in _RANKINGS:
        _RANKINGS[path](task, asked, told)
    else:
        _OTHERS[path](task, asked, told)


def _of_hub(task: str, asked: Body, told: Any) -> None:
    """POST /."""
    given, options = asked.get("inputs"), asked.get("parameters")
    if task in ("embed", "score", "sparse") and _asks_to_rank(asked):
        _tei_ranking(task, asked, told)
    elif task == "embed" and isinstance(given, dict):
        _similarity(task, asked, told)
    elif task == "embed":
        size = {**(options or {}), **asked}.get("dimensions")
        _vectors(told, _texts(given), size)
    elif task == "sparse":
        _sparse(task, asked, told)
    elif task == "tag":
        _entities(given, told)
    elif isinstance(options, dict) and "candidate_labels" in options and task == "classify":
        _zero_shot(given, options, told)
    elif task in ("score", "classify") and "parameters" not in asked:
        _tei_labels(task, asked, told)
    elif task in ("score", "classify"):
        _labels_of_hub(task, given, options or {}, told)
    elif task == "image-classify" and isinstance(given, list):
        _count(told, len(given))


def _asks_to_rank(asked: Body) -> bool:
    return "query" in asked and ("texts" in asked or "inputs" not in asked)


# Vectors


def _vectors(rows: Sequence[Any], texts: Sequence[str], size: float | None) -> None:
    _count(rows, len(texts))
    wanted = int(size or DIMENSION)
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        found, right = _numbers(row), answers([text])[0][:wanted]
        if len(found) != wanted:
            raise Wrong(f"vector {place} has {len(found)} numbers, not {wanted}")
        _near(f"vector {place}", _unit(found), _unit(right))


def _numbers(row: Any) -> Numbers:
    if isinstance(row, str):
        return np.frombuffer(base64.b64decode(row, validate=True), "<f4")
    return np.array(row, np.float32)


def _unit(vector: Numbers) -> Numbers:
    return vector / (np.linalg.norm(vector) or np.float32(1))


def _openai(asked: Body, told: Any) -> None:
    _is("places", [one["index"] for one in told["data"]], list(range(len(told["data"]))))
    rows = [one["embedding"] for one in told["data"]]
    named = {"START": "left", "END": "right"}.get(str(asked.get("truncate")))
    limit, side = asked.get("truncate_prompt_tokens"), named or asked.get("truncation_side")
    texts = [_cut(text, limit, side) for text in _texts(asked["input"])]
    _vectors(rows, texts, asked.get("dimensions") or asked.get("output_dimension"))


def _cohere(asked: Body, told: Any) -> None:
    texts = asked.get("texts")
    if texts is None:
        texts = [one["content"][0]["text"] for one in asked["inputs"]]
    side = "left" if asked.get("truncate") == "START" else "right"
    texts = [_cut(text, asked.get("max_tokens"), side) for text in texts]
    size, found = asked.get("output_dimension"), told["embeddings"]
    for name, rows in found.items() if isinstance(found, dict) else [("float", found)]:
        if name in ("float", "base64"):
            _vectors(rows, texts, size)
        else:
            bits = np.packbits(answers(texts)[:, : int(size or DIMENSION)] > 0, axis=1)
            right = bits.astype(int) - 128 * (name == "binary")
            _is(name, rows, right.tolist())


def _ollama(asked: Body, told: Any) -> None:
    given, limit = asked.get("input"), (asked.get("options") or {}).get("num_ctx")
    texts = [_cut(text, limit) for text in _texts(given)] if given else []
    _vectors(told["embeddings"], texts, asked.get("dimensions"))


def _ollama_older(asked: Body, told: Any) -> None:
    prompt, limit = asked.get("prompt"), (asked.get("options") or {}).get("num_ctx")
    rows = [told["embedding"]] if prompt else told["embedding"]
    _vectors(rows, [_cut(prompt, limit)] if prompt else [], None)


_VECTORS: Mapping[str, Callable[[Body, Any], None]] = {
    "/embed": lambda asked, told: _vectors(told, _texts(asked["inputs"]), asked.get("dimensions")),
    "/v1/embeddings": _openai,
    "/openai/v1/embeddings": _openai,
    "/openai/deployments/simulated/embeddings": _openai,
    "/embeddings": _openai,
    "/infinity/embeddings": _openai,
    "/api/embed": _ollama,
    "/api/embeddings": _ollama_older,
    "/v1/embed": _cohere,
    "/v2/embed": _cohere,
}


# Rankings


def _relevance(
    task: str, query: str, texts: Sequence[str], asked: Body | None = None, *, raw: bool
) -> list[float]:
    """`asked`: may say how many tokens of an input are read, as vLLM has it."""
    asked = asked or {}
    if task == "score":
        pairs = [_cut_as_vllm(f"{text}{_PAIRED}{query}", asked) for text in texts]
        logits = answers(pairs)[:, 0].astype(float)
        return [float(each) if raw else 1 / (1 + math.exp(-each)) for each in logits]
    vectors = answers([_cut_as_vllm(each, asked) for each in (query, *texts)]).astype(float)
    one, others = vectors[0], vectors[1:]
    if task == "sparse":
        found = np.abs(others) @ np.abs(one)
        return list(found if raw else found / (1 + found))
    found = others @ one / np.linalg.norm(others, axis=1) / np.linalg.norm(one)
    return list(found if raw else np.maximum(found, 0.0))


def _ranked(
    rows: Sequence[Mapping[str, Any]], name: str, right: Sequence[float], most: Any
) -> None:
    """All of them, or the best; the highest first."""
    _count(rows, min(int(most or len(right)), len(right)))
    scores = [row[name] for row in rows]
    if len({row["index"] for row in rows}) != len(rows):
        raise Wrong("a document is ranked twice")
    _near("scores", scores, [right[row["index"]] for row in rows])
    _near("the order", scores, sorted(right, reverse=True)[: len(rows)])


def _tei_ranking(task: str, asked: Body, told: Any) -> None:
    if asked.get("documents") is not None:
        _ranking_of_documents(task, asked, told)
        return
    texts = asked["texts"]
    right = _relevance(task, asked["query"], texts, raw=bool(asked.get("raw_scores")))
    _ranked(told, "score", right, None)
    if asked.get("return_text"):
        _is("texts", [row["text"] for row in told], [texts[row["index"]] for row in told])


def _ranking_of_documents(task: str, asked: Body, told: Any) -> None:
    given = [one if isinstance(one, str) else one["text"] for one in asked["documents"]]
    raw = bool(asked.get("raw_scores")) or asked.get("use_activation") is False
    _ranked(
        told["results"],
        "relevance_score",
        _relevance(task, asked["query"], given, asked, raw=raw),
        asked.get("top_n"),
    )
    for row in told["results"]:
        document = row.get("document")
        text = document["text"] if isinstance(document, dict) else document
        _is("document", text, text if text is None else given[row["index"]])


def _infinity_ranking(task: str, asked: Body, told: Any) -> None:
    of_others = {"use_activation": None, "truncate_prompt_tokens": None}
    _ranking_of_documents(task, {**asked, **of_others}, told)


def _similarity(task: str, asked: Body, told: Any) -> None:
    of = asked["inputs"]
    _near("cosines", told, _relevance(task, of["source_sentence"], of["sentences"], raw=True))


def _scores(task: str, asked: Body, told: Any) -> None:
    first, second = next(
        names for names in _SIDES if all(asked.get(name) is not None for name in names)
    )
    ones, others = _texts(asked[first]), _texts(asked[second])
    if len(ones) == 1:
        ones = ones * len(others)
    raw, right = asked.get("use_activation") is False, []
    for one, other in zip(ones, others, strict=True):
        right += _relevance(task, one, [other], asked, raw=raw or task == "embed")
    _near("scores", [row["score"] for row in told["data"]], right)


_RANKINGS: Mapping[str, Callable[[str, Body, Any], None]] = {
    "/rerank": _tei_ranking,
    "/v1/rerank": _ranking_of_documents,
    "/v2/rerank": _ranking_of_documents,
    "/infinity/rerank": _infinity_ranking,
    "/similarity": _similarity,
    "/score": _scores,
    "/v1/score": _scores,
}


# Labels


def _logits(task: str, one: Any) -> NDArray[np.float64]:
    """Of a text, or of a pair."""
    if isinstance(one, dict):
        one = [one["text"], *([one["text_pair"]] if one.get("text_pair") is not None else [])]
    if isinstance(one, list):
        one = one[0] if len(one) == 1 else f"{one[1]}{_PAIRED}{one[0]}"
    logits: NDArray[np.float64] = answers([one])[0][: len(_names(task))].astype(float)
    return logits


def _names(task: str) -> Sequence[str]:
    return ("LABEL_0",) if task == "score" else LABELS


def _activated(task: str, logits: NDArray[np.float64], function: str | None) -> NDArray[np.float64]:
    function = function or ("sigmoid" if task == "score" else "softmax")
    if function == "none":
        return logits
    if function == "sigmoid":
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return scores
    powers = np.exp(logits)
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


def _labelled(task: str, rows: Sequence[Any], right: NDArray[np.float64], most: Any = None) -> None:
    _count(rows, min(int(most or len(right)), len(right)))
    scores = [row["score"] for row in rows]
    _near("order", scores, sorted(right, reverse=True)[: len(rows)])
    place = {name: place for place, name in enumerate(_own_names(task, rows))}
    _near("scores", scores, [right[place[row["label"]]] for row in rows])


def _own_names(task: str, rows: Sequence[Any]) -> Sequence[str]:
    """The service's own simulated runner has others."""
    named = [row["label"] for row in rows]
    return _names(task) if set(named) <= {*_names(task)} else ["LABEL_0", "LABEL_1", "LABEL_2"]


def _tei_labels(task: str, asked: Body, told: Any) -> None:
    given, function = asked["inputs"], "none" if asked.get("raw_scores") else None
    if not (_is_batch(given) and isinstance(given[0], list)):
        given, told = [given], [told]
    _count(told, len(given))
    for one, rows in zip(given, told, strict=True):
        _labelled(task, rows, _activated(task, _logits(task, one), function))


def _labels_of_hub(task: str, given: Any, options: Body, told: Any) -> None:
    inputs = given if _is_batch(given) else [given]
    _count(told, len(inputs))
    for one, rows in zip(inputs, told, strict=True):
        right = _activated(task, _logits(task, one), options.get("function_to_apply"))
        _labelled(task, rows, right, options.get("top_k"))


def _labels_of_infinity(task: str, asked: Body, told: Any) -> None:
    function = "none" if asked.get("raw_scores") else None
    _count(told["data"], len(asked["input"]))
    for one, rows in zip(asked["input"], told["data"], strict=True):
        _labelled(task, rows, _activated(task, _logits(task, one), function))


def _classes(task: str, asked: Body, told: Any) -> None:
    """POST /classify and POST /pooling, which have the scores in the labels' order."""
    texts = _texts(asked["input"])
    _count(told["data"], len(texts))
    function = "none" if asked.get("use_activation") is False else None
    for text, row in zip(texts, told["data"], strict=True):
        right = _activated(task, _logits(task, _cut_as_vllm(text, asked)), function)
        found = _numbers(row["probs"] if "probs" in row else row["data"])
        _near("scores", found, right)


def _pooling(task: str, asked: Body, told: Any) -> None:
    if task != "embed":
        _classes(task, asked, told)
        return
    texts = [_cut_as_vllm(text, asked) for text in _texts(asked["input"])]
    _vectors([row["data"] for row in told["data"]], texts, asked.get("dimensions"))


def _zero_shot(given: Any, options: Body, told: Any) -> None:
    labels = options["candidate_labels"]
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    rows = told if _is_batch(given) else [told]
    _count(rows, len(given) if _is_batch(given) else 1)
    for row in rows:
        _is("labels", sorted(one["label"] for one in row), sorted(labels))
        total = sum(one["score"] for one in row)
        if len(labels) > 1 and options.get("multi_label") is not True:
            _near("the sum", [total], [1.0])


# Tokens


def _sparse(task: str, asked: Body, told: Any) -> None:
    texts = _texts(asked["inputs"])
    _count(told, len(texts))
    for text, row in zip(texts, told, strict=True):
        _is("words", [one["index"] for one in row], list(range(DIMENSION)))
        _near("weights", [one["value"] for one in row], np.abs(answers([text])[0]))


def _of_every_token(task: str, asked: Body, told: Any) -> None:
    texts = _texts(asked["inputs"])
    _count(told, len(texts))
    for text, rows in zip(texts, told, strict=True):
        _near("rows", np.array(rows), answers(text.split() or [""]))


def _entities(given: Any, told: Any) -> None:
    texts, rows = (given, told) if _is_batch(given) else ([given], [told])
    _count(rows, len(texts))
    for text, entities in zip(texts, rows, strict=True):
        for one in entities:
            if not 0 <= one["start"] <= one["end"] <= len(text):
                raise Wrong(f"an entity from {one['start']} to {one['end']} of {len(text)}")


def _tokens(task: str, asked: Body, told: Any) -> None:
    texts = _texts(asked["inputs"])
    _count(told, len(texts))
    for text, tokens in zip(texts, told, strict=True):
        size, end = len(text.encode()), 0
        for one in tokens:
            if not one["special"] and not end <= one["start"] <= one["stop"] <= size:
                raise Wrong(f"a token from {one['start']} to {one['stop']} behind {end} of {size}")
            end = end if one["special"] else one["start"]


def _decode(task: str, asked: Body, told: Any) -> None:
    ids = asked["ids"]
    _count(told, len(ids) if isinstance(ids[0], list) else 1)


_OTHERS: Mapping[str, Callable[[str, Body, Any], None]] = {
    "/predict": _tei_labels,
    "/classify": _classes,
    "/infinity/classify": _labels_of_infinity,
    "/pooling": _pooling,
    "/embed_sparse": _sparse,
    "/embed_all": _of_every_token,
    "/tokenize": _tokens,
    "/decode": _decode,
}


# Tensors


def _tensors(task: str, asked: Body, told: Any) -> None:
    given = {one["name"]: list(_flat(one["data"])) for one in asked["inputs"]}
    found = {
        one["name"]: np.reshape(one["data"], one["shape"])
        for one in told["outputs"]
        if one["datatype"] != "BYTES"
    }
    options = asked.get("parameters") or {}
    texts = given.get("text", [])
    if task == "embed" and texts and "embedding" in found:
        _vectors(list(found["embedding"]), texts, options.get("dimensions"))
    elif task == "sparse" and {"indices", "values"} <= found.keys():
        _near("values", found["values"], np.abs(answers(texts)))
        _near("indices", found["indices"], [list(range(DIMENSION))] * len(texts))
    elif task in ("score", "classify") and "scores" in found:
        function = "none" if options.get("raw_scores") else None
        if task == "score":
            queries = given["query"] * (len(given["documents"]) // len(given["query"]))
            pairs = [[*pair] for pair in zip(queries, given["documents"], strict=True)]
        else:
            pairs = [[*pair] for pair in zip(*given.values(), strict=True)]
        right = [_activated(task, _logits(task, pair), function) for pair in pairs]
        _near("scores", found["scores"].ravel(), np.concatenate(right))


def _flat(data: list[Any]) -> Iterator[Any]:
    for each in data:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


# What they share


def _texts(given: Any) -> list[str]:
    """Of a text, of token ids, of an object with a text, or of a list of these."""
    if isinstance(given, str | dict):
        given = [given]
    if not isinstance(given[0], str | list | dict):
        given = [given]
    given = [one["text"] if isinstance(one, dict) else one for one in given]
    return [
        one if isinstance(one, str) else " ".join(str(int(each)) for each in one) for one in given
    ]


def _cut(text: str, limit: float | None, side: str | None = None) -> str:
    """A word is a token."""
    words = text.split()
    if limit in (None, -1) or len(words) <= limit:
        return text
    return " ".join(words[-int(limit) :] if side == "left" else words[: int(limit)])


def _cut_as_vllm(text: str, asked: Body) -> str:
    return _cut(text, asked.get("truncate_prompt_tokens"), asked.get("truncation_side"))


def _is_batch(given: Any) -> bool:
    return isinstance(given, list)


def _count(rows: Sequence[Any], wanted: int) -> None:
    if len(rows) != wanted:
        raise Wrong(f"{len(rows)} are answered, not {wanted}")


def _is(what: str, found: object, right: object) -> None:
    if found != right:
        raise Wrong(f"{what}: {found!r:.80}, not {right!r:.80}")


def _near(what: str, found: Any, right: Any) -> None:
    found, right = np.asarray(found, float), np.asarray(right, float)
    if found.shape != right.shape or not np.allclose(found, right, atol=_NEAR, rtol=_NEAR):
        raise Wrong(f"{what}: {found!r:.80}, not {right!r:.80}")
