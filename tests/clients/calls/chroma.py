import os

from chromadb.utils.embedding_functions import (
    HuggingFaceEmbeddingServer,
    OllamaEmbeddingFunction,
    OpenAIEmbeddingFunction,
)
from told import MANY, MODEL, TEXTS, vectors

os.environ["CHROMA_OPENAI_API_KEY"] = "none"


def openai(urls):
    function = OpenAIEmbeddingFunction(model_name=MODEL, api_base=urls["embed"] + "/v1")
    return vectors(MANY, function(MANY))


def huggingface_server(urls):
    return vectors(TEXTS, HuggingFaceEmbeddingServer(url=urls["embed"] + "/embed")(TEXTS))


def ollama(urls):
    return vectors(TEXTS, OllamaEmbeddingFunction(url=urls["embed"])(TEXTS))
