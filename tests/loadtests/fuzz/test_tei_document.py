"""Claims about what is amended in another service's document."""

from __future__ import annotations

import copy

from loadtests.fuzz import tei_document

ERROR = {"type": "string", "enum": ["Validation"]}
FIELDS = {"inputs": {"type": "string"}, "truncate": {"type": "boolean"}}
POST = {"responses": {"200": {"description": "ok"}}}
DOCUMENT = {
    "info": {"title": "Text Embeddings Inference"},
    "paths": {"/v1/embeddings": {"post": POST}, "/health": {"get": POST}},
    "components": {
        "schemas": {
            "ErrorType": ERROR,
            "EmbedRequest": {"required": ["inputs"], "properties": FIELDS},
            "SimilarityParameters": {
                "required": ["truncation_direction"],
                "properties": {"truncation_direction": {"type": "string"}},
            },
            "PredictInput": {"oneOf": []},
            "TruncationDirection": {"enum": ["Left", "Right"]},
        }
    },
}


def test_a_copy_is_amended_and_only_of_their_document() -> None:
    before = copy.deepcopy(DOCUMENT)
    made = tei_document.amended(DOCUMENT)
    assert before == DOCUMENT
    assert tei_document.is_theirs(made)
    assert not tei_document.is_theirs({"info": {"title": "ours"}})
    schemas = made["components"]["schemas"]
    properties = schemas["EmbedRequest"]["properties"]
    assert "anyOf" in properties["truncate"]
    assert "anyOf" not in properties["inputs"]
    assert "anyOf" in schemas["SimilarityParameters"]["properties"]["truncation_direction"]
    assert {"400", "413", "415"} <= made["paths"]["/v1/embeddings"]["post"]["responses"].keys()
