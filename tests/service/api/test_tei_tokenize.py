"""POST /tokenize and POST /decode: the tokenizer alone, as text-embeddings-inference answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from batcher.clock import MonotonicClock
from service.app import create_app
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, is_tei_error, make_front
from tests.service.tiny import as_text_tokenizer, word_tokenizer


def served(tokenizer: TextTokenizer) -> Iterator[TestClient]:
    front = make_front(FakeClient(), MonotonicClock())
    front.served = dataclasses.replace(front.model(), tokenizer=tokenizer)
    with TestClient(create_app(front)) as client:
        yield client
    front.close()


@pytest.fixture
def http() -> Iterator[TestClient]:
    yield from served(word_tokenizer())


@pytest.fixture
def prompted() -> Iterator[TestClient]:
    yield from served(word_tokenizer(prompt="one "))


def ask(http: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert is_tei_error(answer.json())
    return answer.json()


def token(id: int, text: str, start: int | None = None, stop: int | None = None) -> dict[str, Any]:
    return {"id": id, "text": text, "special": start is None, "start": start, "stop": stop}


CLS, SEP = token(2, "[CLS]"), token(3, "[SEP]")


def test_places_are_bytes_and_special_tokens_have_none(http: TestClient) -> None:
    text = "né 𝄞  one what"
    got = ask(http, "/tokenize", inputs=text)
    assert got == [
        [
            CLS,
            token(7, "né", 0, 3),
            token(8, "𝄞", 4, 8),
            token(4, "one", 10, 13),
            token(1, "what", 14, 18),
            SEP,
        ]
    ]
    for each in got[0][1:-1]:
        assert text.encode()[each["start"] : each["stop"]].decode() == each["text"]


def test_there_is_a_list_for_each_text_and_for_one(http: TestClient) -> None:
    assert ask(http, "/tokenize", inputs="") == [[CLS, SEP]]
    got = ask(http, "/tokenize", inputs=["one", "two"], add_special_tokens=False)
    assert got == [[token(4, "one", 0, 3)], [token(5, "two", 0, 3)]]
    assert ask(http, "/tokenize", inputs="", add_special_tokens=False) == [[]]


def test_a_special_token_in_the_text_is_a_part_of_it(http: TestClient) -> None:
    got = ask(http, "/tokenize", inputs="one [SEP]", add_special_tokens=None, prompt_name=None)
    assert got == [[CLS, token(4, "one", 0, 3), token(3, "[SEP]", 4, 9), SEP]]


def test_places_are_those_of_the_text_with_its_prompt(prompted: TestClient) -> None:
    got = ask(prompted, "/tokenize", inputs="two")
    assert got == [[CLS, token(4, "one", 0, 3), token(5, "two", 4, 7), SEP]]


def test_nothing_is_cut_and_a_long_text_is_written_whole(http: TestClient) -> None:
    many = 10_001
    [got] = ask(http, "/tokenize", inputs="one " * many, add_special_tokens=False)
    assert len(got) == many
    places = [token(4, "one", 4 * place, 4 * place + 3) for place in (0, 4095, 4096, many - 1)]
    assert [got[place] for place in (0, 4095, 4096, many - 1)] == places


def test_tokens_of_bytes_stand_for_the_whole_character() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({name: place for place, name in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for http in served(as_text_tokenizer(tokenizer, vocab_size=256)):
        [got] = ask(http, "/tokenize", inputs="aé")
        assert [(each["text"], each["start"], each["stop"]) for each in got] == [
            ("a", 0, 1),
            ("é", 1, 3),
            ("é", 1, 3),
        ]
        assert ask(http, "/decode", ids=[each["id"] for each in got]) == ["aé"]


def test_ids_become_texts_always_in_a_list(http: TestClient) -> None:
    assert ask(http, "/decode", ids=[2, 4, 5, 3]) == ["one two"]
    assert ask(http, "/decode", ids=[[2, 4], [5.0]]) == ["one", "two"]
    got = ask(http, "/decode", ids=[[2, 4, 3]], skip_special_tokens=False)
    assert got == ["[CLS] one [SEP]"]
    assert ask(http, "/decode", ids=[4] * 10_000) == [" ".join(["one"] * 10_000)]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/tokenize", {}, 422, "inputs: this field is required"),
        ("/tokenize", {"inputs": []}, 400, "`inputs` cannot be empty"),
        ("/tokenize", {"inputs": 5}, 422, "inputs: must be a text or a list of texts"),
        ("/tokenize", {"inputs": ["a", [1]]}, 422, "inputs[1]: must be a text, not a list"),
        ("/tokenize", {"inputs": ["a"] * 2049}, 422, "batch size 2049 > maximum"),
        ("/tokenize", {"inputs": "a", "prompt_name": "query"}, 422, "prompt_name"),
        ("/decode", {}, 422, "ids: this field is required"),
        ("/decode", {"ids": []}, 400, "`ids` cannot be empty"),
        ("/decode", {"ids": [[]]}, 400, "`ids[0]` cannot be empty"),
        ("/decode", {"ids": "a"}, 422, "ids: must be a list of token ids"),
        ("/decode", {"ids": [[1], 2]}, 422, "ids[1]: must be a list of token ids, not the number"),
        ("/decode", {"ids": [1, "a"]}, 422, "ids: token 1 must be an integer"),
        ("/decode", {"ids": [[1], [1, 9]]}, 422, "ids[1]: token 1 is 9, not an integer from 0 to"),
        ("/decode", {"ids": [-1]}, 422, "ids: token 0 is -1"),
        ("/decode", {"ids": [2**70]}, 422, "ids: token 0 is "),
        ("/decode", {"ids": [True]}, 422, "ids: token 0 must be an integer"),
        ("/decode", {"ids": [[1]] * 2049}, 422, "batch size 2049 > maximum"),
    ],
)
def test_bad_input_is_named(
    http: TestClient, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    assert says in ask(http, path, status, **body)["error"]


def test_a_model_without_a_tokenizer_here_says_so(front: Any) -> None:
    with TestClient(create_app(front)) as http:
        for path, body in (("/tokenize", {"inputs": "a"}), ("/decode", {"ids": [1]})):
            assert "this model has no tokenizer" in ask(http, path, 424, **body)["error"]
        assert path not in http.get("/openapi.json").json()["paths"]
