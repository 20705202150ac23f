import litellm
from told import DOCUMENTS, QUERY, TEXTS, ranks, vectors


def _embed(urls, model, path="", **options):
    answer = litellm.embedding(
        model=model, input=TEXTS, api_base=urls["embed"] + path, api_key="none", **options
    )
    return vectors(TEXTS, [each["embedding"] for each in answer.data])


def openai(urls):
    return _embed(urls, "openai/mine", "/v1")


def openai_like(urls):
    return _embed(urls, "hosted_vllm/mine", "/v1")


def huggingface(urls):
    return _embed(urls, "huggingface/mine", input_type="embed")


def infinity(urls):
    return _embed(urls, "infinity/mine", "/infinity")


def ollama(urls):
    return _embed(urls, "ollama/mine")


def cohere(urls):
    return _embed(urls, "cohere/embed-v4.0", "/v2/embed", input_type="search_document")


def _rerank(urls, model, path=""):
    answer = litellm.rerank(
        model=model,
        query=QUERY,
        documents=DOCUMENTS,
        top_n=3,
        api_base=urls["embed"] + path,
        api_key="none",
    )
    got = [(each["index"], each["relevance_score"]) for each in answer.results]
    return ranks(QUERY, DOCUMENTS, got)


def rerank_cohere(urls):
    return _rerank(urls, "cohere/rerank-v3.5")


def rerank_infinity(urls):
    return _rerank(urls, "infinity/mine", "/infinity")


def rerank_huggingface(urls):
    return _rerank(urls, "huggingface/mine")


def rerank_vllm(urls):
    return _rerank(urls, "hosted_vllm/mine")


def rerank_jina(urls):
    return _rerank(urls, "jina_ai/mine", "/v1/rerank")
