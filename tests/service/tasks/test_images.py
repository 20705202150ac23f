"""What a text stands for: an image, the address of one, or itself."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from service.errors import InputError
from service.tasks.image_embed import ImagesAndTexts, Similarity
from service.tasks.images import image_bytes, is_data_uri, is_url
from service.tasks.plain_text import SimulatedTokenizer
from service.tasks.protocol import ModelInput
from tests.service.tiny_images import data_uri


class Images:
    def prepare_image(self, data: bytes) -> ModelInput:
        return ModelInput(data, 1)


@pytest.mark.parametrize(
    "text",
    [
        data_uri(b"an image"),
        data_uri(b"an image").upper().replace(data_uri(b"an image").upper()[22:], "YW4gaW1hZ2U="),
        "\n " + data_uri(b"an image", "image/x-anything"),
        "data:image/png;charset=utf-8;base64,YW4g\r\naW1hZ2U=",
        "YW4gaW1hZ2U=",
        "YW4g aW1h\nZ2U=\n",
    ],
)
def test_an_image_in_a_text(text: str) -> None:
    assert image_bytes(text) == b"an image"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://example.com/cat.png", "not fetched"),
        ("HTTP://example.com/cat", "not fetched"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png,%89PNG", "without base64"),
        ("data:text/plain;base64,YW4=", "of text/plain"),
        ("data:image/png;base64,YW4", "base64"),
        ("data:image/png;base64,YW4gaW1hZ2U=YW4=", "base64"),
        ("data:image/png;base64,YW4%3D", "base64"),
        ("an image", "base64"),
        ("é", "base64"),
        ("", "empty"),
    ],
)
def test_what_stands_for_no_image(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        image_bytes(text)


def test_a_model_of_images_and_texts_takes_a_text_for_what_it_is() -> None:
    both = ImagesAndTexts(Images(), SimulatedTokenizer())
    assert both.prepare(data_uri(b"an image")).payload == b"an image"
    for text in ("a cat", "data: the new oil", "see https://example.com/cat.png there", ""):
        assert both.prepare(text).payload == text
    for text in ("https://example.com/cat.png", "data:audio/wav;base64,YW4=", " http://a/b "):
        with pytest.raises(InputError):
            both.prepare(text)
    assert both.prepare_ids([1, 2]).payload == "1 2"


def test_urls_and_data_uris_are_told_from_texts() -> None:
    assert is_url("http://a")
    assert is_url("\thttps://a/b?c ")
    assert not is_url("http://a is down")
    assert not is_url("http")
    assert is_data_uri("data:image/png;base64,AAAA")
    assert is_data_uri("DATA:image/svg+xml,<svg/>")
    assert not is_data_uri("data:, nothing")
    assert not is_data_uri("data: a/b, c")


def test_the_fit_of_texts_to_an_image() -> None:
    image = np.array([2.0, 0.0], np.float32)
    texts = [np.array([0.0, 1.0], np.float32), np.array([3.0, 0.0], np.float32)]
    scores = Similarity(10.0, -1.0, "softmax").scores(image, texts)
    np.testing.assert_allclose(scores, [np.exp(-10) / (1 + np.exp(-10)), 1 / (1 + np.exp(-10))])
    scores = Similarity(10.0, -1.0, "sigmoid").scores(image, texts)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(1)), 1 / (1 + np.exp(-9))], rtol=1e-6)
    ranked = Similarity(10.0, 0.0, "softmax").ranked(image, [*texts, texts[1]], ["a", "b", "c"])
    assert [each["label"] for each in ranked] == ["b", "c", "a"]


def test_base64_is_what_everyone_else_writes() -> None:
    assert image_bytes(base64.encodebytes(bytes(range(256))).decode()) == bytes(range(256))
