"""What clients do that retry by themselves. Each call is one of the client's own; test_retries.py
counts the requests that it made of them."""

import json
import threading
import time
import urllib.request

import cohere
import openai


def _openai(urls):
    return openai.OpenAI(base_url=urls["busy"] + "/v1", api_key="none")


def _cohere(urls):
    return cohere.ClientV2("none", base_url=urls["busy"])


def _refused(calls):
    for call in calls:
        try:
            call()
        except Exception:
            continue
        raise AssertionError("it was not refused")
    return {"calls": len(calls)}


def openai_lasting(urls):
    create = _openai(urls).embeddings.create
    return _refused(
        [
            lambda: create(model="m", input=[]),
            lambda: create(model="m", input=[[1, 2]]),
            lambda: create(model="m", input="a", dimensions=100_000),
            lambda: create(model="m", input=["a", 1]),
            lambda: create(model="m", input=["a"] * 3000),
        ]
    )


def cohere_lasting(urls):
    embed = _cohere(urls).embed
    fixed = {"model": "m", "input_type": "search_query", "embedding_types": ["float"]}
    return _refused([lambda: embed(texts=[], **fixed), lambda: embed(texts=["a"] * 3000, **fixed)])


def _fill(urls):
    """One input runs and two wait: the next is refused."""
    for number in range(3):
        body = json.dumps({"inputs": f"filling {number} {time.monotonic()}"}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(urls["busy"] + "/embed", body, headers)
        threading.Thread(target=_ask, args=(request,)).start()
        counted = "waiting" if number else "running"
        while json.loads(_ask(urls["busy"] + "/stats"))[counted] < max(number, 1):
            pass


def _ask(request):
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def openai_overload(urls):
    client = _openai(urls)
    _fill(urls)
    return {"got": len(client.embeddings.create(model="m", input="mine").data)}


def cohere_overload(urls):
    client = _cohere(urls)
    _fill(urls)
    got = client.embed(
        model="m", texts=["mine"], input_type="search_query", embedding_types=["float"]
    )
    return {"got": len(got.embeddings.float_)}
