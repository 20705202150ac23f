"""Several keys, and whose share of the engine a request takes."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service import arguments
from service.app import create_app
from service.settings import BadSetting, Settings
from tests.service.conftest import FakeClient, make_front

BODY = {"inputs": "a"}


def asked(engine: FakeClient, api_key: str | None, given: str | None) -> int:
    settings = {} if api_key is None else {"api_key": api_key}
    with TestClient(create_app(make_front(engine, **settings))) as http:
        headers = {} if given is None else {"authorization": f"Bearer {given}"}
        return http.post("/embed", json=BODY, headers=headers).status_code


@pytest.mark.parametrize(("given", "caller"), [("one", "key 0"), ("two", "key 1"), ("é", "key 2")])
def test_each_key_is_a_caller_that_its_name_does_not_give_away(given: str, caller: str) -> None:
    engine = FakeClient()
    with TestClient(create_app(make_front(engine, api_key="one,two,é"))) as http:
        headers = {b"authorization": b"Bearer " + given.encode()}
        assert http.post("/embed", json=BODY, headers=headers).status_code == 200
        assert http.post("/embed", json={"inputs": ["a"] * 2}, headers=headers).status_code == 200
    assert [one.caller for one in engine.submitted] == [caller] * 2


@pytest.mark.parametrize("given", [None, "", "three", "one,two", "on", "one,", ","])
def test_what_is_none_of_the_keys_is_refused(given: str | None) -> None:
    engine = FakeClient()
    assert asked(engine, "one,two", given) == 401
    assert engine.submitted == []


def test_all_keys_are_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append(key)
        return given == key

    monkeypatch.setattr("service.http.auth.hmac.compare_digest", compare)
    for given in ("one", "two", "neither"):
        compared.clear()
        asked(FakeClient(), "one,two", given)
        assert compared == [b"one", b"two"]


def test_without_keys_the_caller_is_the_peer() -> None:
    engine = FakeClient()
    assert asked(engine, None, None) == 200
    assert engine.last.caller == "testclient"


@pytest.mark.parametrize("keys", [",", "a,", ",a", "a,,b"])
def test_an_empty_key_is_refused_at_the_start(keys: str) -> None:
    with pytest.raises(
        BadSetting, match=r"^--api-key=\(hidden\): .*must not contain an empty key"
    ) as refused:
        arguments.load({"api_key": keys})
    assert keys not in str(refused.value).replace(", ", " ") or keys == ","


def test_no_key_is_shown() -> None:
    lines = "\n".join(arguments.effective(Settings(api_key="alpha,beta"), {}))
    assert "alpha" not in lines
    assert "beta" not in lines
