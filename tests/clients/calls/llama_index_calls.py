from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from told import DOCUMENTS, MODEL, QUERY, TEXTS, ranks, vectors


def openai_like(urls):
    client = OpenAILikeEmbedding(
        model_name=MODEL, api_base=urls["embed"] + "/v1", api_key="none", embed_batch_size=512
    )
    return vectors(TEXTS, client.get_text_embedding_batch(TEXTS))


def text_embeddings_inference(urls):
    client = TextEmbeddingsInference(
        model_name=MODEL, base_url=urls["embed"], text_instruction=" ", query_instruction=" "
    )
    return vectors(TEXTS, client.get_text_embedding_batch(TEXTS))


def tei_rerank(urls):
    ranker = TextEmbeddingInference(base_url=urls["embed"], top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    kept = ranker.postprocess_nodes(nodes, QueryBundle(QUERY))
    places = [DOCUMENTS.index(each.node.text) for each in kept]
    return ranks(QUERY, DOCUMENTS, zip(places, [each.score for each in kept], strict=True))
