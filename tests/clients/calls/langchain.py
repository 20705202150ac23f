import os

from huggingface_hub import InferenceClient
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings
from told import DOCUMENTS, MANY, QUERY, TEXTS, ranks, refused, vectors

os.environ["COHERE_API_KEY"] = "none"


def _openai(urls, **options):
    return OpenAIEmbeddings(base_url=urls["embed"] + "/v1", api_key="none", **options)


def openai_embed_documents(urls):
    client = _openai(urls, check_embedding_ctx_length=False)
    return vectors(MANY, client.embed_documents(MANY))


def openai_embed_query(urls):
    client = _openai(urls, check_embedding_ctx_length=False)
    return vectors(TEXTS[:1], [client.embed_query(TEXTS[0])])


def openai_default_settings_are_refused(urls):
    """By default it sends the ids of another vocabulary. It loads its table from the network: the
    test hands it one that gives these ids."""
    import tiktoken

    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda _name: tiktoken.Encoding(
        "bytes",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([n]): n for n in range(256)},
        special_tokens={},
    )
    client = _openai(urls)
    return refused(
        lambda: client.embed_documents(TEXTS), "check_embedding_ctx_length", "BATCHER_TOKEN_IDS"
    )


def huggingface_endpoint(urls):
    client = HuggingFaceEndpointEmbeddings(model="any/name")
    client.client = InferenceClient(model=urls["embed"])  # `model` takes no address since 1.2
    return vectors(TEXTS, client.embed_documents(TEXTS))


def ollama(urls):
    client = OllamaEmbeddings(model="all-minilm", base_url=urls["embed"])
    return vectors(TEXTS, client.embed_documents(TEXTS))


def cohere_embeddings(urls):
    client = CohereEmbeddings(model="embed-v4.0", base_url=urls["embed"])
    return vectors(TEXTS, client.embed_documents(TEXTS))


def cohere_rerank(urls):
    client = CohereRerank(model="rerank-v3.5", base_url=urls["embed"], top_n=3)
    got = client.rerank(DOCUMENTS, QUERY)
    return ranks(QUERY, DOCUMENTS, [(one["index"], one["relevance_score"]) for one in got])
