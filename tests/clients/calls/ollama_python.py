from ollama import Client
from told import TEXTS, same, vectors


def embed(urls):
    got = Client(host=urls["embed"]).embed(model="all-minilm", input=TEXTS)
    return vectors(TEXTS, got.embeddings)


def embeddings(urls):
    got = Client(host=urls["embed"]).embeddings(model="all-minilm", prompt=TEXTS[1])
    return vectors(TEXTS[1:2], [got.embedding], scaled=False)


def tags(urls):
    return same(len(Client(host=urls["embed"]).list().models), 1)
