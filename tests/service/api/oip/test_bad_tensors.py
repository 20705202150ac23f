"""Tensors that are not what they say: 400 and the tensor's name, and nothing reaches the engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.oip.datatypes import DATATYPES, elements_in, numbers_from, numbers_in, to_bytes
from service.api.oip.tensors import ANY, TensorSpec, raw_tensor, tensor_of
from service.errors import InputError
from tests.conftest import EFFORT
from tests.service.api.oip.conftest import HEADER, Model, packed, texts, with_binary
from tests.service.conftest import FakeClient

INFER = "/v2/models/tests/tiny/infer"
ONE = {"inputs": [texts("a")]}


def tensor(**more: Any) -> dict[str, Any]:
    return {**texts("a"), **more}


def asked(**more: Any) -> dict[str, Any]:
    return {**ONE, **more}


BODIES: dict[str, tuple[Any, str]] = {
    "no inputs": ({}, "inputs: this field is required"),
    "inputs are null": ({"inputs": None}, "inputs: must be a list of objects, not null"),
    "no tensor": ({"inputs": []}, "inputs: the input text (BYTES) is missing"),
    "a tensor is no object": ({"inputs": ["a"]}, "inputs[0]: must be an object"),
    "100,000 tensors": ({"inputs": [{}] * 100_000}, "inputs: has 100000 entries; at most 64"),
    "no name": ({"inputs": [{"shape": [1]}]}, "inputs[0].name: this field is required"),
    "another name": ({"inputs": [tensor(name="nix\n")]}, "there is no input 'nix\\n'; this model"),
    "twice": ({"inputs": [texts("a"), texts("b")]}, "text: is there twice"),
    "another datatype": ({"inputs": [tensor(datatype="FP32")]}, "text: is BYTES, not 'FP32'"),
    "no datatype": ({"inputs": [tensor(datatype="STRING")]}, "inputs[0].datatype: must be one of"),
    "a number for a text": ({"inputs": [tensor(data=[1])]}, "text: element 0 must be a text"),
    "null for a text": ({"inputs": [tensor(data=[None])]}, "text: element 0 must be a text"),
    "data is no list": ({"inputs": [tensor(data="a")]}, "text.data: must be a list, not the text"),
    "no data": ({"inputs": [tensor(data=None)]}, "text.data: must be a list, not null"),
    "lists and texts": ({"inputs": [tensor(data=[["a"], "b"])]}, "text: holds lists and values"),
    "shape of more": (
        {"inputs": [tensor(shape=[2])]},
        "text: is of shape [2], which is 2, and has",
    ),
    "shape of fewer": ({"inputs": [tensor(shape=[0])]}, "text: is of shape [0], which is 0, and"),
    "no rows": ({"inputs": [tensor(shape=[0], data=[])]}, "text: has no rows"),
    "a row of two": ({"inputs": [tensor(shape=[1, 2], data=["a", "b"])]}, "text: must be of shape"),
    "no shape": ({"inputs": [tensor(shape=None)]}, "text.shape: must be a list of at most 32"),
    "shape of -1": ({"inputs": [tensor(shape=[-1])]}, "text.shape: holds -1, which is not a whole"),
    "shape of 1.5": ({"inputs": [tensor(shape=[1.5])]}, "text.shape: holds 1.5"),
    "shape of true": ({"inputs": [tensor(shape=[True])]}, "text.shape: holds True"),
    "shape of 10^30": ({"inputs": [tensor(shape=[10**15, 10**15])]}, "text.shape: is of more"),
    "33 dimensions": (
        {"inputs": [tensor(shape=[1] * 33)]},
        "text.shape: must be a list of at most",
    ),
    "no id": (asked(id=7), "id: "),
    "parameters are a list": (asked(parameters=[]), "parameters: must be an object"),
    "priority of -1": (asked(parameters={"priority": -1}), "parameters.priority: "),
    "timeout as a text": (asked(parameters={"timeout": "1"}), "parameters.timeout: "),
    "dimensions of 9": (asked(parameters={"dimensions": 9}), "parameters.dimensions: the model's"),
    "a prompt": (asked(parameters={"prompt_name": "x"}), "prompt_name: there is no prompt 'x'"),
    "outputs are no list": (asked(outputs={}), "outputs: must be a list of objects"),
    "an output is no object": (asked(outputs=[1]), "outputs[0]: must be an object"),
    "another output": (asked(outputs=[{"name": "x"}]), "outputs[0]: there is no output 'x'; this"),
    "an output's parameters are no object": (
        asked(outputs=[{"name": "embedding", "parameters": False}]),
        "outputs[0].parameters: must be an object",
    ),
    "an output twice": (asked(outputs=[{"name": "embedding"}] * 2), "outputs: embedding is there"),
    "-1 classes": (
        asked(outputs=[{"name": "embedding", "parameters": {"classification": -1}}]),
        "outputs[0].parameters.classification: ",
    ),
    "binary without a header": (
        {"inputs": [{**tensor(parameters={"binary_data_size": 5}), "data": None}]},
        "text: binary_data_size without the header Inference-Header-Content-Length",
    ),
    "both ways": (
        {"inputs": [tensor(parameters={"binary_data_size": 5})]},
        "text: has both data and binary_data_size",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_wrong_is_a_400(http: TestClient, engine: FakeClient, name: str) -> None:
    body, error = BODIES[name]
    answer = http.post(INFER, json=body)
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert set(told) == {"error", "code", "request_id"}
    assert error in told["error"]
    assert len(answer.content) < 400
    assert not engine.submitted


BINARY: dict[str, tuple[int, bytes, str]] = {
    "one byte too few": (6, packed(b"a") + b"b", "text: has 1 bytes more than its 1 elements"),
    "more than there is": (9, packed(b"a"), "text: binary_data_size is 9, and 5 bytes are left"),
    "less than there is": (5, packed(b"a") + b"b", "inputs: the body has 1 bytes more than"),
    "an element that is longer": (
        5,
        b"\xff\xff\xff\xffa",
        "text: element 0 is said to have 4294967295 bytes; fewer follow",
    ),
    "a length cut off": (3, b"\x01\0\0", "text: has 3 bytes of binary data, too few for 1"),
    "no element": (0, b"", "text: has 0 bytes of binary data, too few for 1"),
    "no UTF-8": (5, packed(b"\xff"), "text[0]: byte 0 is not of a text in UTF-8"),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_sizes_that_lie_are_a_400(http: TestClient, engine: FakeClient, name: str) -> None:
    size, data, error = BINARY[name]
    one = {"name": "text", "datatype": "BYTES", "shape": [1]}
    body = {"inputs": [{**one, "parameters": {"binary_data_size": size}}]}
    answer = http.post(INFER, **with_binary(body, data))
    assert (answer.status_code, error in answer.json()["error"]) == (400, True), answer.text
    assert not engine.submitted


@pytest.mark.parametrize("value", ["-1", "1e1", "", "99999", "٣", "1" * 5000, "0x1", "+1", "1, 1"])
def test_a_length_of_the_json_that_lies_is_a_400(http: TestClient, value: str) -> None:
    answer = http.post(INFER, json=ONE, headers={HEADER: value.encode()})
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length: must be" in answer.json()["error"]
    assert len(answer.content) < 400


def test_a_length_in_the_middle_of_the_json_is_a_400(http: TestClient) -> None:
    answer = http.post(INFER, json=ONE, headers={HEADER: "20"})
    assert (answer.status_code, "not JSON" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [tensor(parameters={"shared_memory_region": "x"})]},
        asked(outputs=[{"name": "embedding", "parameters": {"shared_memory_region": "x"}}]),
        asked(parameters={"sequence_id": 5, "sequence_start": True}),
        asked(parameters={"sequence_id": "five"}),
    ],
    ids=["input", "output", "sequence", "named-sequence"],
)
def test_an_extension_that_is_not_offered_is_a_501(http: TestClient, body: Any) -> None:
    answer = http.post(INFER, json=body)
    assert answer.status_code == 501
    assert "not offered" in answer.json()["error"]
    assert answer.headers["x-should-retry"] == "false"


IDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "beyond the vocabulary": ([{"data": [5, 10**6]}], "input_ids[0]: token 1 is 1000000"),
    "a mask with a hole": (
        [{"shape": [1, 3], "data": [5, 6, 7]}, {"shape": [1, 3], "data": [1, 0, 1]}],
        "attention_mask[0]: must be ones side by side",
    ),
    "a mask of 2": ([{"data": [5, 6]}, {"data": [1, 2]}], "attention_mask[0]: must be ones"),
    "nothing but mask": ([{"data": [5, 6]}, {"data": [0, 0]}], "input_ids[0]: has no tokens"),
    "a mask of another shape": (
        [{"data": [5, 6]}, {"shape": [2, 1], "data": [1, 1]}],
        "attention_mask: is of shape [2, 1], input_ids of [1, 2]",
    ),
    "a mask alone": ([{}, {"data": [1, 1]}], "attention_mask: is of no use without input_ids"),
    "no token": ([{"shape": [1, 0], "data": []}], "input_ids[0]: has no tokens"),
    "half a token": ([{"data": [5, 6.5]}], "input_ids: 6.5 is not a whole number"),
    "true": ([{"data": [5, True]}], "input_ids: element 1 must be a whole number, not true"),
    "2^63": ([{"data": [5, 2**63]}], "input_ids: 9223372036854775808 is beyond INT64"),
    "beyond a float": ([{"data": [5, -9.3e18]}], "input_ids: -9.3e+18 is not a whole number"),
    "one dimension": ([{"shape": [2], "data": [5, 6]}], "input_ids: must be of shape [-1, -1]"),
}


@pytest.mark.parametrize("name", IDS)
def test_token_ids_that_are_none_are_a_400(model: Model, engine: FakeClient, name: str) -> None:
    parts, error = IDS[name]
    inputs = [
        {"name": tensor, "datatype": "INT64", "shape": [1, 2], **part}
        for tensor, part in zip(("input_ids", "attention_mask"), parts, strict=False)
        if part
    ]
    with model("ids") as http:
        answer = http.post(INFER, json={"inputs": inputs})
    assert (answer.status_code, error in answer.json()["error"]) == (400, True), answer.text
    assert not engine.submitted


def test_text_and_ids_together_are_a_400(model: Model) -> None:
    ids = {"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [5]}
    with model("ids") as http:
        answer = http.post(INFER, json={"inputs": [texts("a"), ids]})
    assert answer.json()["error"] == "inputs: send text or input_ids, not both"


def test_more_rows_than_a_call_may_have_and_classes_without_end_are_a_400(
    http: TestClient, engine: FakeClient
) -> None:
    answer = http.post(INFER, json={"inputs": [texts(*["a"] * 3000)]})
    assert (answer.status_code, "at most 2048" in answer.json()["error"]) == (400, True)
    wanted = {"name": "embedding", "parameters": {"classification": 10**9}}
    answer = http.post(INFER, json={"inputs": [texts("a")], "outputs": [wanted]})
    assert (answer.status_code, len(answer.json()["outputs"][0]["data"])) == (200, 8)


# Every datatype, by itself: models of the user's own may declare any.


@pytest.mark.parametrize(
    ("datatype", "data", "error"),
    [
        ("BOOL", [1], "element 0 must be true or false"),
        ("UINT8", [256], "256 is beyond UINT8"),
        ("UINT8", [-1], "-1 is beyond UINT8"),
        ("INT8", [-129], "-129 is beyond INT8"),
        ("UINT64", [-1], "-1 is beyond UINT64"),
        ("INT32", ["1"], "element 0 must be a whole number"),
        ("FP16", [70000.0], "70000.0 is beyond FP16"),
        ("FP32", [1e39], "1e+39 is beyond FP32"),
        ("FP64", [None], "element 0 must be a number"),
        ("BF16", [1.0], "BF16 has no form in JSON"),
    ],
)
def test_numbers_that_a_datatype_does_not_hold_are_refused(
    datatype: str, data: list[Any], error: str
) -> None:
    with pytest.raises(InputError, match=error.replace("+", r"\+")):
        numbers_from(data, datatype)


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each != "BYTES"])
def test_numbers_are_the_same_as_json_and_as_bytes(datatype: str) -> None:
    data = [True, False] if datatype == "BOOL" else [1, 3]
    if datatype == "BF16":
        assert numbers_in(memoryview(b"\x80\x3f\x40\x40"), "BF16", 2).tolist() == [1, 3]
        return
    array = numbers_from(data, datatype)
    assert numbers_in(memoryview(to_bytes(array)), datatype, 2).tolist() == data
    assert array.dtype == numbers_in(memoryview(to_bytes(array)), datatype, 2).dtype


def test_a_boolean_is_a_byte_of_0_or_1() -> None:
    with pytest.raises(InputError, match="byte of 0 or 1"):
        numbers_in(memoryview(b"\x02"), "BOOL", 1)


@settings(max_examples=200 * EFFORT)
@given(st.binary(max_size=40), st.integers(0, 6))
def test_any_bytes_are_elements_or_refused(data: bytes, count: int) -> None:
    try:
        elements = elements_in(memoryview(data), count)
    except InputError:
        return
    assert to_bytes(elements) == data
    assert len(elements) == count


@pytest.mark.parametrize(
    ("shape", "size", "wanted"),
    [
        ((ANY, 3), 12, (1, 3)),
        ((ANY, ANY), 8, (1, 2)),
        ((ANY, ANY, 2), 16, (1, 2, 2)),
        ((4,), 4, ()),
    ],
)
def test_the_shape_of_a_tensor_alone_follows_from_its_bytes(
    shape: tuple[int, ...], size: int, wanted: tuple[int, ...]
) -> None:
    spec = TensorSpec("x", "FP32", shape)
    if not wanted:
        with pytest.raises(InputError, match="must be of shape"):
            raw_tensor(spec, memoryview(bytes(size)))
        return
    assert raw_tensor(spec, memoryview(bytes(size))).shape == wanted
    with pytest.raises(InputError, match="bytes of binary data"):
        raw_tensor(spec, memoryview(bytes(size + 1)))


def test_a_fixed_dimension_is_kept() -> None:
    spec = TensorSpec("x", "FP32", (ANY, 3))
    with pytest.raises(InputError, match=r"x: must be of shape \[-1, 3\], not \[1, 2\]"):
        tensor_of(spec, (1, 2), memoryview(bytes(8)))
