from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereTextEmbedder
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from told import DOCUMENTS, QUERY, TEXTS, ranks, vectors

_TEI = "text_embeddings_inference"


def text_embedder(urls):
    embedder = HuggingFaceAPITextEmbedder(api_type=_TEI, api_params={"url": urls["embed"]})
    return vectors(TEXTS[:1], [embedder.run(text=TEXTS[0])["embedding"]], scaled=False)


def document_embedder(urls):
    embedder = HuggingFaceAPIDocumentEmbedder(
        api_type=_TEI, api_params={"url": urls["embed"]}, normalize=True, progress_bar=False
    )
    found = embedder.run(
        documents=[Document(content=text, id=str(n)) for n, text in enumerate(TEXTS)]
    )
    return vectors(TEXTS, [each.embedding for each in found["documents"]])


def _ranks(found):
    places = [int(each.id) for each in found["documents"]]
    return ranks(
        QUERY, DOCUMENTS, zip(places, [each.score for each in found["documents"]], strict=True)
    )


def _documents():
    return [Document(content=text, id=str(place)) for place, text in enumerate(DOCUMENTS)]


def tei_ranker(urls):
    return _ranks(HuggingFaceTEIRanker(url=urls["embed"]).run(query=QUERY, documents=_documents()))


def cohere_ranker(urls):
    ranker = CohereRanker(api_key=Secret.from_token("none"), api_base_url=urls["embed"])
    return _ranks(ranker.run(query=QUERY, documents=_documents()))


def cohere_text_embedder(urls):
    embedder = CohereTextEmbedder(api_key=Secret.from_token("none"), api_base_url=urls["embed"])
    return vectors(TEXTS[:1], [embedder.run(text=TEXTS[0])["embedding"]])
