"""The service does what /openapi.json says, whatever is sent. The long form of this is
`python -m loadtests check schema`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from service.app import create_app
from service.catalog import ServedModel, own_model, simulated_model
from service.processes.build import _serve_model
from service.settings import Settings
from service.tasks.all_tokens import AllTokens
from service.tasks.classify import Classify
from service.tasks.plain_text import SimulatedTokenizer, TextPassthrough
from service.tasks.tag import Tag
from service.tasks.zero_shot import ZeroShot
from tests.conftest import EFFORT
from tests.service.conftest import FakeClient, make_front, served
from tests.service.tiny import word_tokenizer

_CONFIG = Path(__file__).parents[3] / "loadtests" / "openapi.toml"


def described(client: FakeClient, model: ServedModel) -> Any:
    front = make_front(client)
    front.served = model
    config = SchemathesisConfig.from_path(str(_CONFIG))
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(front), config=config)


# A version's routes are the model's, and those of Triton's extensions only refuse.
schema = described(FakeClient(), served(SimulatedTokenizer())).exclude(
    path_regex="/versions/|^/v2/(.*/trace|trace|logging|.*memory|repository/models)/?"
)
own = described(
    FakeClient(answer=lambda payload: payload),
    own_model("my.module:function", "predict", TextPassthrough(), created=0),
)
scorer = described(
    FakeClient(answer=lambda payload: np.zeros(1, np.float32)),
    dataclasses.replace(
        simulated_model("tests/tiny", "score", SimulatedTokenizer(), created=0),
        tokenizer=word_tokenizer(),
    ),
)
sees = described(
    FakeClient(answer=lambda payload: np.zeros(3, np.float32)),
    _serve_model(Settings(model="tests/tiny", runner="simulated", task="image-classify")),
)
both = described(
    FakeClient(facts={"logit_scale": 10.0, "logit_bias": 0.0, "zero_shot": "softmax"}),
    # Of the vectors that the client answers: else only an answer tells what `dimensions` may be.
    dataclasses.replace(
        _serve_model(Settings(model="tests/tiny", runner="simulated", task="image-embed")),
        dimension=7,
    ),
)
tags = described(
    FakeClient(answer=lambda payload: np.zeros((len(payload), 2), np.float32)),
    ServedModel("tests/tiny", 0, {Tag.name: Tag(word_tokenizer(), ["O", "B-PER"], "[UNK]")}),
)
sparse = described(
    FakeClient(answer=lambda payload: (np.array([7], np.int32), np.ones(1, np.float32))),
    simulated_model("tests/tiny", "sparse", SimulatedTokenizer(), created=0),
)
LABELS = ["contradiction", "neutral", "entailment"]
infers = described(
    FakeClient(answer=lambda payload: np.zeros(3, np.float32)),
    ServedModel(
        "tests/tiny",
        0,
        {
            Classify.name: Classify(SimulatedTokenizer(), LABELS, "softmax"),
            ZeroShot.name: ZeroShot(SimulatedTokenizer(), LABELS, 2),
        },
    ),
)
tokens = described(
    FakeClient(answer=lambda payload: np.zeros((2, 8), np.float32)),
    ServedModel("tests/tiny", 0, {AllTokens.name: AllTokens(SimulatedTokenizer(), 8)}),
)
INFER = "/v2/models/{model}/infer"
examples = settings(
    max_examples=15 * EFFORT,
    phases=[Phase.explicit, Phase.generate],  # a failing request is as good unshrunk, and sooner
    suppress_health_check=list(HealthCheck),
)


@schema.parametrize()
@examples
def test_every_answer_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@scorer.include(
    path=[
        *["/", "/rerank", "/v1/rerank", "/predict", "/tokenize", "/decode"],
        *["/score", "/classify", "/pooling", INFER],
    ]
).parametrize()
@examples
def test_every_answer_of_a_cross_encoder_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@tags.include(path="/").parametrize()
@examples
def test_every_answer_of_a_token_classifier_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@sparse.include(path=["/", "/embed_sparse", "/rerank"]).parametrize()
@examples
def test_every_answer_of_a_sparse_encoder_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@infers.include(path="/").parametrize()
@examples
def test_every_answer_of_zero_shot_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@tokens.include(path="/embed_all").parametrize()
@examples
def test_every_answer_of_all_tokens_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@sees.include(path=["/", "/predict"]).parametrize()
@examples
def test_every_answer_of_an_image_classifier_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@both.include(path=["/", "/v2/embed"]).parametrize()
@examples
def test_every_answer_of_a_model_of_images_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()


@own.include(path="/v1/predict").parametrize()
@examples
def test_every_answer_of_a_users_own_model_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()
