"""What a client may say, in every shape that the routes know: by what the model is for, and by
route. All of it is right; mutations.py spoils it."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

MODEL = "simulated"
LABELS = ("contradiction", "neutral", "entailment")  # of the classifier


def png(width: int, height: int, shade: int) -> bytes:
    """An image of one grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    rows = (b"\x00" + bytes([shade]) * width) * height
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


_IMAGE = base64.b64encode(png(3, 2, 90)).decode()
_URI = f"data:image/png;base64,{_IMAGE}"
_ODD_TEXTS = ["a", "b ☃ 𝄞 é", ""]
_TWO = ["the harbour lights", "é"]

Bodies = Sequence[object]  # bytes: no JSON

_OPENAI: Bodies = (
    {"model": MODEL, "input": "the harbour lights"},
    {"model": MODEL, "input": ["a", "b"], "encoding_format": "base64", "user": "u"},
    {"model": MODEL, "input": [5, 6, 7], "dimensions": 3, "encoding_format": "float"},
    {"model": MODEL, "input": [[1], [2, 3]], "truncate": False},
    {"input": "a", "encoding_format": None, "truncate": "END", "input_type": "query"},
    {"input": [{"text": "a"}, "b"], "embedding_type": "base64", "normalized": True},
    {"input": _TWO, "output_dimension": 4, "truncate_prompt_tokens": 2, "truncate": "START"},
)
_INFINITY: Bodies = (
    {"model": "default/not-specified", "input": _TWO, "dimensions": 0, "modality": "text"},
    {"input": ["a"], "encoding_format": "base64", "dimensions": 4},
)
_COHERE: Bodies = (
    {"model": MODEL, "texts": _TWO, "input_type": "search_query"},
    {"texts": _ODD_TEXTS, "embedding_types": ["float", "binary"], "truncate": "START"},
    {
        "inputs": [{"content": [{"type": "text", "text": "a"}]}],
        "embedding_types": ["base64", "ubinary"],
        "output_dimension": 8,
        "max_tokens": 2,
        "truncate": "NONE",
        "priority": 9,
    },
)
_RANK: Bodies = (
    {"query": "the harbour", "texts": _ODD_TEXTS, "return_text": True},
    {"query": "", "texts": ["a"], "raw_scores": True, "truncate": None, "priority": 5},
    {"query": "a", "texts": ["a", "b"], "truncation_direction": "Left", "truncate": True},
)
_DOCUMENTS: Bodies = (
    {"model": MODEL, "query": "the harbour", "documents": ["a", {"text": "b ☃"}], "top_n": 1},
    {"query": "", "documents": _TWO, "return_documents": True, "max_tokens_per_doc": None},
    {"query": "a", "documents": _ODD_TEXTS, "use_activation": False, "priority": 9},
)
_INFINITY_RANK: Bodies = (
    {"query": "a", "documents": _TWO, "return_documents": True, "top_n": 1},
    {"model": MODEL, "query": "", "documents": ["a"], "raw_scores": True},
)
_SCORE: Bodies = (
    {"model": MODEL, "text_1": "a", "text_2": ["the harbour lights", ""]},
    {"queries": ["a", "b"], "documents": _TWO, "truncate_prompt_tokens": 2},
    {"data_1": "a", "data_2": "b", "use_activation": False, "priority": -1},
    {"queries": "a", "items": _ODD_TEXTS, "truncation_side": "left", "user": "u"},
)
_PREDICT: Bodies = (
    {"inputs": "the harbour lights"},
    {"inputs": ["a", "b ☃"], "raw_scores": True, "truncate": True},
    {"inputs": [["a"], ["b", ""]], "truncation_direction": "Left", "priority": 0},
)
_CLASSIFY: Bodies = (
    {"model": MODEL, "input": "the harbour lights"},
    {"input": _ODD_TEXTS, "use_activation": False, "truncate_prompt_tokens": -1},
)
_POOLED_CLASSES: Bodies = (
    {"model": MODEL, "input": "a", "task": "classify"},
    {"input": _TWO, "encoding_format": "base64", "truncate_prompt_tokens": 1},
)
_INFINITY_CLASSES: Bodies = (
    {"model": MODEL, "input": _TWO},
    {"input": ["a"], "raw_scores": True, "priority": 7},
)
_FEATURES: Bodies = (
    {"inputs": ["a", "b"], "normalize": True, "encoding_format": "float"},
    {"inputs": "a", "parameters": {"dimensions": 4, "truncate": True}},
    {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}},
    {"query": "a", "texts": ["b"]},
)
_LABELLED: Bodies = (
    *_PREDICT,
    {"inputs": "a", "parameters": {"top_k": 2, "function_to_apply": "sigmoid"}},
    {"inputs": ["a", {"text": "b", "text_pair": "c"}], "parameters": None},
)
_ZERO_SHOT: Bodies = (
    {"inputs": "a parcel", "parameters": {"candidate_labels": ["delivery", "payment"]}},
    {
        "inputs": ["a", "b"],
        "parameters": {
            "candidate_labels": "one, two",
            "multi_label": True,
            "hypothesis_template": "It is {}.",
        },
    },
)
_TEXTS_OR_IDS: Bodies = (
    {"inputs": "the harbour lights"},
    {"inputs": _ODD_TEXTS, "truncate": True, "truncation_direction": "Right"},
    {"inputs": [[1, 2, 3], "mixed"], "priority": 3},
)


def _tensor(name: str, *texts: str) -> dict[str, object]:
    return {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": [*texts]}


_INFER_TEXT: Bodies = (
    {"id": "7", "inputs": [_tensor("text", "the harbour lights")]},
    {
        "inputs": [_tensor("text", *_ODD_TEXTS)],
        "parameters": {"truncate": True, "truncation_direction": "left", "priority": 8},
    },
)
_INFER_EMBED: Bodies = (
    *_INFER_TEXT,
    {
        "inputs": [_tensor("text", *_TWO)],
        "outputs": [{"name": "embedding"}],
        "parameters": {"dimensions": 4, "normalize": False},
    },
)
_INFER_SCORE: Bodies = (
    {"inputs": [_tensor("query", "a"), _tensor("documents", *_ODD_TEXTS)]},
    {
        "inputs": [_tensor("query", "a", "b"), _tensor("documents", *_TWO)],
        "parameters": {"raw_scores": True},
    },
)
_INFER_CLASSIFY: Bodies = (
    *_INFER_TEXT,
    {
        "inputs": [_tensor("text", *_TWO), _tensor("text_pair", "a", "b")],
        "outputs": [{"name": "scores"}, {"name": "label"}],
    },
)
_INFER_IMAGE: Bodies = ({"inputs": [_tensor("image", _URI, _IMAGE)]},)
INFER = f"/v2/models/{MODEL}/infer"


def _vertex(*bodies: object) -> Bodies:
    return ({"instances": [*bodies]}, {"instances": [bodies[0], bodies[0]], "parameters": None})


VALID: Mapping[str, Mapping[str, Bodies]] = {
    "embed": {
        "/embed": (
            {"inputs": "the harbour lights"},
            {"inputs": _ODD_TEXTS, "truncate": True, "normalize": False},
            {"inputs": [101, 7592, 102]},
            {"inputs": [[1, 2, 3], "mixed", [4]], "dimensions": 4, "truncation_direction": "Left"},
            {"inputs": 'escapes " \\ \n \u0000 \u202e', "prompt_name": None, "dimensions": None},
        ),
        "/embed_all": _TEXTS_OR_IDS,
        "/similarity": (
            {"inputs": {"source_sentence": "a", "sentences": ["b", ""]}},
            {
                "inputs": {"source_sentence": "é", "sentences": ["b"]},
                "parameters": {"truncate": True},
            },
        ),
        "/rerank": (*_RANK, *_DOCUMENTS),
        "/": _FEATURES,
        "/invocations": _FEATURES,
        "/vertex": _vertex(*_FEATURES),
        "/v1/embeddings": _OPENAI,
        "/openai/v1/embeddings": _OPENAI,
        "/openai/deployments/simulated/embeddings": _OPENAI,
        "/embeddings": (*_OPENAI, *_INFINITY),
        "/infinity/embeddings": (*_OPENAI, *_INFINITY),
        "/infinity/rerank": _INFINITY_RANK,
        "/api/embed": (
            {"model": MODEL, "input": "the harbour lights", "keep_alive": "5m", "options": {}},
            {"model": MODEL, "input": _TWO, "truncate": False, "dimensions": 4},
            {"model": MODEL},
        ),
        "/api/embeddings": (
            {"model": MODEL, "prompt": "the harbour lights"},
            {"model": MODEL, "prompt": "the harbour lights", "options": {"num_ctx": 2}},
            {"model": MODEL, "prompt": "", "options": None},
        ),
        "/api/show": ({"model": MODEL}, {"name": MODEL, "verbose": False}),
        "/v1/embed": _COHERE,
        "/v2/embed": _COHERE,
        "/v1/rerank": _DOCUMENTS,
        "/v2/rerank": _DOCUMENTS,
        INFER: _INFER_EMBED,
        "/v2/repository/index": ({"ready": True}, {}),
        "/score": _SCORE,
        "/v1/score": _SCORE,
        "/pooling": (
            {"model": MODEL, "input": "a", "task": "embed"},
            {"input": _TWO, "encoding_format": "base64", "use_activation": False, "dimensions": 4},
            {"input": _ODD_TEXTS, "truncate_prompt_tokens": 1, "truncation_side": "left"},
        ),
    },
    "score": {
        INFER: _INFER_SCORE,
        "/rerank": (*_RANK, *_DOCUMENTS),
        "/v1/rerank": _DOCUMENTS,
        "/v2/rerank": _DOCUMENTS,
        "/infinity/rerank": _INFINITY_RANK,
        "/score": _SCORE,
        "/v1/score": _SCORE,
        "/predict": _PREDICT,
        "/classify": _CLASSIFY,
        "/infinity/classify": _INFINITY_CLASSES,
        "/pooling": _POOLED_CLASSES,
        "/": (*_LABELLED, {"query": "a", "texts": ["b", "c"]}),
        "/vertex": _vertex(*_LABELLED),
    },
    "classify": {
        INFER: _INFER_CLASSIFY,
        "/predict": _PREDICT,
        "/classify": _CLASSIFY,
        "/infinity/classify": _INFINITY_CLASSES,
        "/pooling": _POOLED_CLASSES,
        "/": (*_LABELLED, *_ZERO_SHOT),
        "/invocations": (*_LABELLED, *_ZERO_SHOT),
        "/vertex": _vertex(*_ZERO_SHOT, *_LABELLED),
    },
    "sparse": {
        INFER: _INFER_TEXT,
        "/embed_sparse": _TEXTS_OR_IDS,
        "/rerank": (*_RANK, *_DOCUMENTS),
        "/v2/rerank": _DOCUMENTS,
        "/infinity/rerank": _INFINITY_RANK,
        "/score": _SCORE,
        "/": (*_TEXTS_OR_IDS, {"query": "a", "texts": ["b"]}),
        "/vertex": _vertex(*_TEXTS_OR_IDS),
    },
    "tag": {
        "/": (
            {"inputs": "whales eat krill"},
            {"inputs": ["a", "whales eat"], "parameters": {"aggregation_strategy": "simple"}},
            {
                "inputs": "whales eat krill and more than the model reads at once",
                "parameters": {"aggregation_strategy": "max", "ignore_labels": [], "stride": 1},
            },
        ),
        "/vertex": _vertex({"inputs": "whales"}, {"inputs": ["a", "b"]}),
        "/tokenize": (
            {"inputs": "whales eat krill"},
            {"inputs": _ODD_TEXTS, "add_special_tokens": False, "prompt_name": None},
        ),
        "/decode": (
            {"ids": [1, 2, 3]},
            {"ids": [[1, 2], [3]], "skip_special_tokens": False},
        ),
    },
    "image-classify": {
        INFER: _INFER_IMAGE,
        "/": (
            png(3, 2, 90),
            {"inputs": _IMAGE, "parameters": {"top_k": 2, "function_to_apply": "softmax"}},
            {"inputs": [_URI, _IMAGE], "parameters": None},
        ),
        "/predict": ({"inputs": _URI}, {"inputs": [[_IMAGE], [_URI]], "raw_scores": True}),
        "/classify": ({"input": [_URI]},),
        "/vertex": _vertex({"inputs": _IMAGE}),
    },
    "image-embed": {
        INFER: (*_INFER_IMAGE, {"inputs": [_tensor("text", "a cat")]}),
        "/": (
            png(3, 2, 90),
            {"inputs": _URI, "parameters": {"candidate_labels": ["a cat", "a dog"]}},
            {"inputs": ["a cat", _URI], "normalize": True},
        ),
        "/embed": ({"inputs": [_URI, "a cat"]},),
        "/v1/embeddings": ({"input": [_URI, "a cat"], "encoding_format": "base64"},),
        "/embeddings": ({"input": [_URI], "modality": "image"},),
        "/v2/embed": (
            {"images": [_URI], "input_type": "image"},
            {"inputs": [{"content": [{"type": "image_url", "image_url": {"url": _URI}}]}]},
        ),
        "/vertex": _vertex({"inputs": _URI}, {"inputs": "a cat"}),
    },
    "predict": {
        "/v1/predict": (
            {"inputs": [1, "a", {"b": [None, True, 1.5, "☃"]}], "model": MODEL},
            {"inputs": [[]], "priority": 2},
        ),
    },
}

SIMULATED = ("embed", "score", "classify", "sparse", "image-classify")
"""Tasks that the service's own simulated runner serves in all of these shapes: without labels of
natural language inference, and with no tokens."""


def seeds(*tasks: str) -> Iterator[tuple[str, str, object]]:
    """Task, route and body."""
    for task in tasks or VALID:
        for path, bodies in VALID[task].items():
            for body in bodies:
                yield task, path, body
