"""A model of the user's own that declares its tensors, over Open Inference V2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from batcher import Response, Tensor
from batcher.runner import RunnerInfo
from service.app import create_app
from service.catalog import own_model
from service.tasks.plain_text import TextPassthrough
from tests.service.api.oip.conftest import HEADER, packed, tensors, with_binary
from tests.service.conftest import FakeClient, make_front

INFER = "/v2/models/m/infer"
Own = Callable[[Sequence[Tensor], Sequence[Tensor], Any], TestClient]


@pytest.fixture
def own(engine: FakeClient) -> Own:
    def make(
        inputs: Sequence[Tensor], outputs: Sequence[Tensor], answer: Callable[[Any], Any]
    ) -> TestClient:
        engine.answer = answer
        front = make_front(engine)
        facts = {"is_model": True, "inputs": inputs, "outputs": outputs}
        model = own_model("m", "auto", TextPassthrough(), created=0)
        front.served = model.decided(RunnerInfo(pid=1, details=facts))
        return TestClient(create_app(front))

    return make


def given(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_rows_of_several_tensors_are_inputs_of_the_model(own: Own, engine: FakeClient) -> None:
    inputs = [Tensor("x", "float32", (-1, 2)), Tensor("flag", "bool"), Tensor("name", "bytes")]
    outputs = [Tensor("sum", "float32"), Tensor("tag", "bytes", (2,))]
    with own(
        inputs,
        outputs,
        lambda row: {"sum": row["x"].sum(), "tag": [row["name"], str(bool(row["flag"]))]},
    ) as http:
        told = http.get("/v2/models/m").json()
        assert told["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [-1, -1, 2]},
            {"name": "flag", "datatype": "BOOL", "shape": [-1, 1]},
            {"name": "name", "datatype": "BYTES", "shape": [-1, 1]},
        ]
        assert told["outputs"][1] == {"name": "tag", "datatype": "BYTES", "shape": [-1, 2]}
        body = {
            "inputs": [
                given("x", "FP32", [2, 1, 2], [1, 2, 3, 4.5]),
                given("flag", "BOOL", [2], [True, False]),
                given("name", "BYTES", [2, 1], ["a", "é"]),
            ]
        }
        answer = http.post(INFER, json=body)
        assert answer.status_code == 200, answer.text
        first, second = engine.last.payloads
        assert (first["x"].dtype, first["x"].tolist()) == (np.float32, [[1, 2]])
        assert (second["flag"].shape, bool(second["flag"])) == ((), False)
        assert (first["name"], second["name"]) == (b"a", "é".encode())
        found = tensors(answer)
        assert found["sum"].tolist() == [[3], [7.5]]
        assert found["tag"] == [b"a", b"True", "é".encode(), b"False"]
        body["inputs"][1] = given("flag", "BOOL", [1], [True])
        assert http.post(INFER, json=body).json()["error"] == "flag: has 1 rows, and x has 2"
        del body["inputs"][1]
        answer = http.post(INFER, json=body)
        assert answer.json()["error"] == "inputs: the input flag (BOOL) is missing"


def test_one_tensor_is_the_input_itself_and_may_be_all_of_a_body(
    own: Own, engine: FakeClient
) -> None:
    x, y = [Tensor("x", "int64", (3,))], [Tensor("y", "int64", (3,))]
    with own(x, y, lambda row: row * 2) as http:
        numbers = np.arange(6).reshape(2, 3)
        body = {
            "inputs": [
                {"name": "x", "datatype": "INT64", "shape": [2, 3]}
                | {"parameters": {"binary_data_size": 48}}
            ]
        }
        answer = http.post(INFER, **with_binary(body, numbers.tobytes()))
        assert answer.json()["outputs"][0]["data"] == [0, 2, 4, 6, 8, 10]
        raw = http.post(INFER, content=numbers[:1].tobytes(), headers={HEADER: "0"})
        size = int(raw.headers[HEADER.lower()])
        assert np.frombuffer(raw.content[size:], np.int64).tolist() == [0, 2, 4]
        body = {"inputs": [given("x", "INT32", [1, 3], [1, 2, 3])]}
        assert http.post(INFER, json=body).json()["error"] == "x: is INT64, not 'INT32'"
        body = {"inputs": [given("x", "INT64", [1, 2], [1, 2])]}
        error = http.post(INFER, json=body).json()["error"]
        assert error == "x: must be of shape [-1, 3], not [1, 2]"


@pytest.mark.parametrize(
    ("output", "answer", "status", "error"),
    [
        (Tensor("y", "float32"), lambda _: "text", 500, "y: the model has answered <U4, not"),
        (
            Tensor("y", "float32"),
            lambda _: [[1], [1, 2]],
            500,
            "y: the model has answered no array",
        ),
        (Tensor("y", "float32", (2,)), lambda _: [1.0], 500, "y: the model has answered shape [1]"),
        (Tensor("y", "int8"), lambda _: 300, 500, "y: the model has answered a number beyond int8"),
        (Tensor("y", "int8"), lambda _: 1.5, 500, "y: the model has answered float64, not int8"),
        (Tensor("y", "float16"), lambda _: 1e6, 500, "a number beyond float16"),
        (Tensor("y", "float32"), lambda _: np.float32("nan"), 500, "ask for it as binary data"),
        (Tensor("y", "bytes"), lambda _: 7, 500, "y: the model has answered neither bytes nor"),
        (Tensor("y", "bytes"), lambda _: b"\xff", 500, "y is no text: ask for it as binary data"),
        (Tensor("y", "float32", (-1,)), lambda row: [0.0] * int(row), 400, "rows have shapes [1]"),
    ],
)
def test_an_output_that_is_not_as_it_was_declared_is_said_to_be(
    own: Own, output: Tensor, answer: Any, status: int, error: str
) -> None:
    with own([Tensor("x", "int64")], [output], answer) as http:
        body = {"inputs": [given("x", "INT64", [2, 1], [1, 2])]}
        got = http.post(INFER, json=body)
    assert (got.status_code, error in got.json()["error"]) == (status, True), got.text


def test_bytes_and_nan_travel_as_binary_data(own: Own) -> None:
    outputs = [Tensor("y", "float32"), Tensor("z", "bytes")]
    answer = {"y": float("nan"), "z": Response(b"\xff", "image/png")}
    with own([Tensor("x", "bytes")], outputs, lambda _: answer) as http:
        body = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": 5},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
        found = tensors(http.post(INFER, **with_binary(body, packed(b"\xfe"))))
    assert np.isnan(found["y"]).all()
    assert found["z"] == [b"\xff"]


def test_outputs_that_are_missing_are_named(own: Own) -> None:
    outputs = [Tensor("y", "float32"), Tensor("z", "float32")]
    with own([Tensor("x", "int64")], outputs, lambda _: {"y": 1.0}) as http:
        got = http.post(INFER, json={"inputs": [given("x", "INT64", [1], [1])]})
    assert (got.status_code, "outputs y, z" in got.json()["error"]) == (500, True)


def test_a_model_that_has_not_said_what_it_declares_is_loading(engine: FakeClient) -> None:
    engine.up = False
    front = make_front(engine)
    front.served = own_model("m", "auto", TextPassthrough(), created=0)
    with TestClient(create_app(front)) as http:
        for answer in (http.get("/v2/models/m"), http.post(INFER, json={"inputs": []})):
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_the_document_has_the_models_own_tensors(own: Own) -> None:
    x, y = [Tensor("x", "int8", (-1, 2))], [Tensor("y", "float32")]
    with own(x, y, lambda row: row) as http:
        document = http.get("/openapi.json").json()
    assert "/v2/models/{model}/infer" in document["paths"]
    described = document["components"]["schemas"]["InferOwnBody"]["properties"]
    [tensor] = described["inputs"]["items"]["anyOf"]
    assert tensor["properties"]["shape"] == {"enum": [[1, 1, 2]]}
    assert tensor["properties"]["data"]["items"] == {
        "type": "integer",
        "minimum": -128,
        "maximum": 127,
    }
    with own(x, [], lambda row: row) as http:
        assert "/v2/models/{model}/infer" not in http.get("/openapi.json").json()["paths"]
        answer = http.get("/v2/models/m")
        assert (answer.status_code, "`outputs`" in answer.json()["error"]) == (400, True)
