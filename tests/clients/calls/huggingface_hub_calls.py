import base64

from huggingface_hub import InferenceClient
from told import IMAGE, TEXTS, post, vectors

_LABELS = ["one", "two three"]
_ENCODED = base64.b64encode(IMAGE).decode()


def _client(urls, model):
    return InferenceClient(model=urls[model])


def _scored(found):
    return [{"label": each.label, "score": each.score} for each in found]


def feature_extraction(urls):
    return vectors(TEXTS, _client(urls, "embed").feature_extraction(TEXTS))


def feature_extraction_with_every_option(urls):
    got = _client(urls, "embed").feature_extraction(
        TEXTS[0], normalize=True, truncate=True, truncation_direction="right"
    )
    return vectors(TEXTS[:1], got)


def sentence_similarity(urls):
    got = _client(urls, "embed").sentence_similarity(TEXTS[0], TEXTS[1:])
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}
    return post("embed", body, got, "/similarity")


def text_classification(urls):
    got = _scored(_client(urls, "classify").text_classification("one two"))
    return post("classify", {"inputs": "one two"}, got, "/predict")


def text_classification_top_k(urls):
    client = _client(urls, "classify")
    got = client.text_classification("one two", top_k=3, function_to_apply="softmax")
    return post("classify", {"inputs": "one two"}, _scored(got), "/predict")


def token_classification(urls):
    text = "angela merkel lives in berlin"
    client = _client(urls, "tag")
    got = client.token_classification(text, aggregation_strategy="simple")
    body = {"inputs": text, "parameters": {"aggregation_strategy": "simple"}}
    fields = ("entity_group", "score", "word", "start", "end")
    return post("tag", body, [{name: each[name] for name in fields} for each in got])


def zero_shot_classification(urls):
    got = _client(urls, "nli").zero_shot_classification("angela lives", ["paris", "york"])
    body = {"inputs": "angela lives", "parameters": {"candidate_labels": ["paris", "york"]}}
    return post("nli", body, _scored(got))


def image_classification(urls):
    got = _client(urls, "image-classify").image_classification(IMAGE)
    return post("image-classify", {"inputs": _ENCODED}, _scored(got))


def image_classification_top_k(urls):
    got = _client(urls, "image-classify").image_classification(IMAGE, top_k=2)
    return post("image-classify", {"inputs": _ENCODED, "parameters": {"top_k": 2}}, _scored(got))


def zero_shot_image_classification(urls):
    client = _client(urls, "image-embed")
    got = client.zero_shot_image_classification(IMAGE, candidate_labels=_LABELS)
    body = {"inputs": _ENCODED, "parameters": {"candidate_labels": _LABELS}}
    return post("image-embed", body, _scored(got))
