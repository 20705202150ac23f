"""Token ids from clients of OpenAI, which has another vocabulary than the model that is served."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import CannotServe
from service.tasks import cl100k
from service.tasks.cl100k import Cl100k
from tests.service.conftest import FakeClient, is_openai_error, make_front

# A table like the real one: all bytes, then pieces of several.
TABLE = Cl100k([bytes([byte]) for byte in range(256)] + [b"hello", b" world", b" \xe2\x98"])


def ask(engine: FakeClient, setting: str, given: Any, table: Cl100k | None = None) -> Any:
    front = make_front(engine, token_ids=setting)
    front.served = dataclasses.replace(front.model(), cl100k=table)
    with TestClient(create_app(front)) as http:
        return http.post("/v1/embeddings", json={"input": given})


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]], ["a", [7]]])
def test_ids_are_refused_with_what_to_do(engine: FakeClient, given: Any) -> None:
    answer = ask(engine, "refuse", given)
    assert answer.status_code == 400
    assert is_openai_error(answer.json())
    for told in ("check_embedding_ctx_length=False", "BATCHER_TOKEN_IDS"):
        assert told in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert engine.submitted == []


def test_tei_takes_ids_as_the_models_own(http: TestClient, engine: FakeClient) -> None:
    assert http.post("/embed", json={"inputs": [1, 2]}).status_code == 200
    assert engine.last.payloads == ["1 2"]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ([256, 257], ["hello world"]),
        ([[256], [256, 258, 0x83]], ["hello", "hello \u2603"]),
        ([[256, 258], "text", [256.0]], ["hello \ufffd", "text", "hello"]),
        ([256] * 5000, ["hello" * 5000]),  # not on the event loop
    ],
)
def test_ids_of_openai_are_the_texts_that_they_stand_for(
    engine: FakeClient, given: Any, texts: list[str]
) -> None:
    answer = ask(engine, "cl100k", given, TABLE)
    payloads = engine.last.payloads
    assert answer.json()["data"] == ask(engine, "refuse", texts).json()["data"]
    assert payloads == engine.last.payloads


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ([259], 400, "input: token 0 is 259"),
        ([[1], [2, -1]], 400, "input[1]: token 1 is -1"),
        ([[1], [True]], 400, "input[1]: token 0 must be"),
        ([1, None], 400, "input: token 1 must be"),
    ],
)
def test_what_is_no_id_of_openai_is_named(
    engine: FakeClient, given: Any, status: int, says: str
) -> None:
    answer = ask(engine, "cl100k", given, TABLE)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_the_table_is_read_and_known_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [base64.b64encode(each) + b" %d" % at for at, each in enumerate((b"a", b" b"))]
    data = b"\n".join(lines)
    (tmp_path / cl100k._CACHED).write_bytes(data)
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    with pytest.raises(CannotServe, match="is damaged"):
        cl100k.load(environ)
    monkeypatch.setattr(cl100k, "_SHA256", hashlib.sha256(data).hexdigest())
    assert cl100k.load(environ).text([0, 1]) == "a b"


def test_without_the_table_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cl100k, "find_spec", lambda name: None)
    with pytest.raises(CannotServe, match=r"\[cl100k\].*TIKTOKEN_CACHE_DIR"):
        cl100k.load({"TIKTOKEN_CACHE_DIR": str(tmp_path)})
