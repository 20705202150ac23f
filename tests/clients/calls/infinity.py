from infinity_client import Client
from infinity_client.api.default import classify as _classify
from infinity_client.api.default import embeddings as _embeddings
from infinity_client.api.default import models as _models
from infinity_client.api.default import rerank as _rerank
from infinity_client.models import ClassifyInput, OpenAIEmbeddingInputText, RerankInput
from told import DOCUMENTS, MODEL, QUERY, TEXTS, post, ranks, same, vectors


def _client(urls, model="embed"):
    return Client(base_url=urls[model] + "/infinity", raise_on_unexpected_status=True)


def embeddings(urls):
    body = OpenAIEmbeddingInputText(input_=TEXTS, model=MODEL)
    answer = _embeddings.sync(client=_client(urls), body=body)
    return vectors(TEXTS, [each.embedding for each in answer.data])


def rerank(urls):
    body = RerankInput(query=QUERY, documents=DOCUMENTS, model=MODEL)
    answer = _rerank.sync(client=_client(urls), body=body)
    return ranks(QUERY, DOCUMENTS, [(one.index, one.relevance_score) for one in answer.results])


def classify(urls):
    body = ClassifyInput(input_=["one two", "three"], model="default/not-specified")
    answer = _classify.sync(client=_client(urls, "classify"), body=body)
    got = [[{"score": one.score, "label": one.label} for one in each] for each in answer.data]
    return post("classify", {"inputs": [["one two"], ["three"]]}, got, "/predict")


def models(urls):
    answer = _models.sync(client=_client(urls))
    return same([each.id for each in answer.data][:1], [MODEL])
