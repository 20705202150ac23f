"""What callers may ask of a dense embedding, over HTTP, against the reference library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.testclient import TestClient

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from sentence_transformers import SentenceTransformer

from batcher import Answer, Engine
from service.app import create_app
from service.catalog import text_model
from service.models.encoder import EncoderRunner
from service.repository.prompts import with_prompts
from service.repository.spec import EncoderSpec
from service.settings import Settings
from service.tasks.text import TextTokenizer
from tests.conftest import EFFORT
from tests.fakes import GatedRunner
from tests.service.configs import runner_config
from tests.service.conftest import FakeClient, make_front
from tests.service.tiny import WORDS, make_tiny, read_spec

LIMIT, SIZE = 15, 32  # tokens of a text; numbers of a vector
NAME = "tests/tiny"
PROMPTS = {"query": "one two: ", "passage": "three four five one two three ", "none": ""}


@dataclass
class Model:
    folder: Path
    reference: Any  # without the module that normalises
    http: TestClient

    def encode(self, text: str, options: dict[str, Any], **given: Any) -> NDArray[np.float32]:
        """The reference's answer to what `options` of POST /embed ask for."""
        tokenizer = self.reference.tokenizer
        own = tokenizer.truncation_side
        tokenizer.truncation_side = (options.get("truncation_direction") or own).lower()
        try:
            found: NDArray[np.float32] = self.reference.encode(
                text,
                prompt_name=options.get("prompt_name"),
                normalize_embeddings=options.get("normalize", True),
                truncate_dim=options.get("dimensions"),
                show_progress_bar=False,
                **given,
            )
            return found
        finally:
            tokenizer.truncation_side = own

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        found: list[int] = self.reference.tokenizer(text, add_special_tokens=special)["input_ids"]
        return found

    def ask(self, inputs: Any, options: dict[str, Any]) -> Sequence[Any]:
        answer = self.http.post("/embed", json={"inputs": inputs, **options})
        assert answer.status_code == 200, answer.text
        vectors: list[Any] = answer.json()
        return vectors


class Direct(FakeClient):
    """Runs what one call submits as one batch, with no engine to time it."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        config = runner_config(str(spec.folder), device="cpu", dtype="float32", threads=1)
        self.runner = EncoderRunner(config)
        self.runner.warm_up()

    async def submit_all(self, payloads: Sequence[Any], **options: Any) -> list[Answer]:
        answers = await super().submit_all(payloads, **options)
        rows = self.runner.run(payloads)
        return [one._replace(value=row) for one, row in zip(answers, rows, strict=True)]


@contextmanager
def serving(spec: EncoderSpec, client: Any = None, clock: Any = None) -> Iterator[TestClient]:
    front = make_front(client or Direct(spec), clock)
    front.served = text_model(NAME, spec, TextTokenizer.load(spec), 0)
    with TestClient(create_app(front)) as http:
        yield http


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture(
    scope="module",
    params=[("bert", "mean", False, "right", None), ("roberta", "cls", True, "left", "query")],
    ids=["bert", "roberta, cut on the left, with a default prompt"],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Model]:
    kind, pooling, normalize, side, default = request.param
    folder = make_tiny(tmp_path_factory.mktemp(kind), kind, pooling, normalize=normalize)
    change(
        folder / "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name=default
    )
    change(folder / "tokenizer_config.json", truncation_side=side, model_max_length=LIMIT)
    loaded = SentenceTransformer(str(folder), device="cpu")
    reference = SentenceTransformer(
        modules=list(loaded)[:2],
        device="cpu",
        prompts=loaded.prompts,
        default_prompt_name=loaded.default_prompt_name,
    )
    assert reference.max_seq_length == LIMIT
    with serving(read_spec(folder)) as http:
        yield Model(folder, reference, http)


texts = st.lists(st.sampled_from([*WORDS[4:], "unknown", "?"]), max_size=30).map(" ".join)
options = st.fixed_dictionaries(
    {},
    optional={
        "normalize": st.booleans(),
        "dimensions": st.none() | st.integers(1, SIZE),
        "prompt_name": st.sampled_from([None, *PROMPTS]),
        "truncation_direction": st.sampled_from([None, "Left", "left", "Right", "right"]),
        "truncate": st.sampled_from([None, True]),
    },
)


@settings(max_examples=30 * EFFORT, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=8), options)
def test_every_option_gives_the_references_answer_alone_and_in_a_batch(
    model: Model, drawn: list[tuple[str, bool]], options: dict[str, Any]
) -> None:
    inputs = [model.ids(text) if text and as_ids else text for text, as_ids in drawn]
    together = model.ask(inputs, options)
    for (text, _), one, vector in zip(drawn, inputs, together, strict=True):
        expected = model.encode(text, options)
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
        [alone] = model.ask([one], options)
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [{}, {"dimensions": 5}, {"prompt_name": "passage"}])
def test_openais_vectors_have_length_1_whatever_is_asked_for(
    model: Model, given: dict[str, Any]
) -> None:
    text = "one two three"
    body = {"input": text, "model": NAME, **given}
    answer = model.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    vector = answer.json()["data"][0]["embedding"]
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(vector, model.encode(text, given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [None, "passage"])
@pytest.mark.parametrize("direction", [None, "Left", "Right"])
def test_the_other_routes_of_an_embedder_take_the_same_options(
    model: Model, name: str | None, direction: str | None
) -> None:
    options = {"prompt_name": name, "truncation_direction": direction}
    texts = ["one two", " ".join(WORDS[4:] * 4), "three"]
    answer = model.http.post("/embed_all", json={"inputs": texts, **options})
    assert answer.status_code == 200, answer.text
    for states, text in zip(answer.json(), texts, strict=True):
        expected = model.encode(text, options, output_value="token_embeddings")
        np.testing.assert_allclose(states, expected, rtol=1e-4, atol=1e-5)
    inputs = {"source_sentence": texts[0], "sentences": texts[1:]}
    answer = model.http.post("/similarity", json={"inputs": inputs, "parameters": options})
    assert answer.status_code == 200, answer.text
    one, *others = (model.encode(text, options) for text in texts)
    np.testing.assert_allclose(answer.json(), np.stack(others) @ one, rtol=1e-4, atol=1e-5)


def test_tokens_are_those_of_the_text_behind_the_prompt(model: Model) -> None:
    for name in (None, *PROMPTS):
        answer = model.http.post("/tokenize", json={"inputs": "four five", "prompt_name": name})
        assert answer.status_code == 200, answer.text
        [tokens] = answer.json()
        prompt = PROMPTS.get(name or model.reference.default_prompt_name or "none", "")
        assert [one["id"] for one in tokens] == model.ids(prompt + "four five", special=True)


class Lengths(GatedRunner):
    """Answers as a worker's head does: here (1, 0) and how many tokens there are."""

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        return [np.float32([1, 0, len(ids)]) for ids in super().run(payloads)]


def test_equal_texts_share_an_answer_unless_an_option_changes_their_tokens(model: Model) -> None:
    runner = Lengths()
    runner.release(9)
    engine = Engine(runner, isolation="thread", limits=Settings(cache_bytes=1 << 20).limits)
    with serving(read_spec(model.folder), engine, engine._clock) as http:
        assert http.portal is not None
        http.portal.call(engine.start)

        def ask(text: str, **options: Any) -> Any:
            answer = http.post("/embed", json={"inputs": [text, text], **options})
            assert answer.status_code == 200, answer.text
            return answer.json()

        long = " ".join(WORDS[4:] * 5)
        for name, tokens in (("none", 4), ("query", 7)):
            for normalize, length in ((True, 1), (False, tokens), (True, 1)):
                got = ask("one two", normalize=normalize, prompt_name=name)
                assert got == [[length, 0]] * 2
        for direction in ("Left", "Right", "Left"):
            ask(long, truncation_direction=direction, prompt_name="none")
        http.portal.call(engine.close)
    rows = [ids.tolist() for batch in runner.batches for ids in batch]
    assert len(rows) == 4, "a row for each list of tokens: two prompts, two directions"
    assert len(set(map(tuple, rows))) == 4


def test_a_prompt_counts_towards_the_limit(model: Model) -> None:
    text = "one " * 9
    for one in (text, model.ids(text)):
        for name, status in (("none", 200), ("passage", 422)):
            body = {"inputs": [one], "prompt_name": name, "truncate": False}
            answer = model.http.post("/embed", json=body)
            assert answer.status_code == status, answer.text
    assert "must have less than 15 tokens. Given: 17" in answer.json()["error"]


def test_an_unknown_prompt_is_refused_with_those_there_are(model: Model) -> None:
    for inputs in ("one", ["one", "two"], [4, 5]):
        answer = model.http.post("/embed", json={"inputs": inputs, "prompt_name": "nope"})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("prompt_name: there is no prompt 'nope'")
        assert "'passage'" in answer.json()["error"]
    body = {"input": ["one", "two"], "model": NAME, "prompt_name": "nope"}
    answer = model.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt_name"


def test_the_description_names_the_prompts(model: Model) -> None:
    schemas = model.http.get("/openapi.json").json()["components"]["schemas"]
    for name in ("EmbedBody", "EmbeddingsBody"):
        names = schemas[name]["properties"]["prompt_name"]["anyOf"]
        assert names == [{"enum": ["document", "none", "passage", "query"]}, {"type": "null"}]


def test_the_info_has_the_prompts(model: Model) -> None:
    info = model.http.get("/info").json()
    assert info["prompts"] == model.reference.prompts
    assert info["default_prompt_name"] == model.reference.default_prompt_name


def test_prompts_of_the_settings_are_the_references_own_arguments(model: Model) -> None:
    named = {"query": "five five ", "other": "two "}
    reference = SentenceTransformer(
        modules=list(model.reference),
        device="cpu",
        prompts={**model.reference.prompts, **named},
        default_prompt_name="other",
    )
    with serving(with_prompts(read_spec(model.folder), "two ", named)) as http:
        for name in (None, "query", "other", "passage"):
            answer = http.post("/embed", json={"inputs": ["one", [4]], "prompt_name": name})
            assert answer.status_code == 200, answer.text
            expected = reference.encode(
                "one", prompt_name=name, normalize_embeddings=True, show_progress_bar=False
            )
            np.testing.assert_allclose(answer.json(), [expected] * 2, rtol=1e-4, atol=1e-5)


def test_a_models_own_sizes_and_its_cut_are_those_of_its_files(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    change(folder / "config.json", matryoshka_dimensions=[8, 16])
    change(folder / "config_sentence_transformers.json", truncate_dim=24)
    reference = SentenceTransformer(str(folder), device="cpu")
    with serving(read_spec(folder)) as http:
        for wanted in (None, 8, 16, 24):
            body = {"inputs": "one two", "dimensions": wanted}
            [vector] = http.post("/embed", json=body).json()
            expected = reference.encode(
                "one two", truncate_dim=wanted, normalize_embeddings=True, show_progress_bar=False
            )
            np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
        schemas = http.get("/openapi.json").json()["components"]["schemas"]
        for name in ("EmbedBody", "EmbeddingsBody"):
            sizes = schemas[name]["properties"]["dimensions"]["anyOf"][0]
            assert sizes == {"type": "integer", "minimum": 1, "enum": [8, 16, 24]}
        for wanted, says in ((9, "trained for: 8, 16"), (25, "smaller than the maximum")):
            answer = http.post("/embed", json={"inputs": "one two", "dimensions": wanted})
            assert answer.status_code == 422
            assert says in answer.json()["error"]
