from cohere import Client, ClientV2
from told import DOCUMENTS, QUERY, TEXTS, ranks, refused, vectors


def _v1(urls, model="embed"):
    return Client("none", base_url=urls[model])


def _v2(urls, model="embed"):
    return ClientV2("none", base_url=urls[model])


def embed_v2(urls):
    got = _v2(urls).embed(
        model="embed-v4.0", texts=TEXTS, input_type="search_document", embedding_types=["float"]
    )
    return vectors(TEXTS, got.embeddings.float_)


def embed_v1(urls):
    got = _v1(urls).embed(model="embed-v4.0", texts=TEXTS, input_type="search_document")
    return vectors(TEXTS, got.embeddings)


def _ranks(answer, model="embed"):
    got = [(each.index, each.relevance_score) for each in answer.results]
    return ranks(QUERY, DOCUMENTS, got, model)


def rerank_v2(urls):
    return _ranks(_v2(urls).rerank(model="any", query=QUERY, documents=DOCUMENTS, top_n=3))


def rerank_v1(urls):
    return _ranks(_v1(urls).rerank(model="any", query=QUERY, documents=DOCUMENTS))


def rerank_by_a_cross_encoder(urls):
    answer = _v2(urls, "score").rerank(model="any", query=QUERY, documents=DOCUMENTS)
    return _ranks(answer, "score")


def no_documents_are_refused(urls):
    rerank = _v2(urls).rerank
    return refused(lambda: rerank(model="any", query=QUERY, documents=[]), "documents")
