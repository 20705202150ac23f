"""What a call tells test_calls.py: which answer it got, and what the same is without the client."""

import base64

TEXTS = ["hello", "a second text, longer than the first", "été 𝄞", "hello"]
MANY = [f"text number {number % 40}" for number in range(1000)]
QUERY = "how is the weather"
DOCUMENTS = ["it rains today", "a recipe for bread", "the sun will shine tomorrow", "weather"]
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# An image of 4 by 4 pixels in two colours.
IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAE0lEQVR42mP4z8AA"
    "RGDiPwNxHACeow/xy+hZbgAAAABJRU5ErkJggg=="
)


def vectors(texts, got, scaled=True):
    """The vectors of these texts. scaled=False: as the model made them, of any length."""
    return {"kind": "vectors", "texts": texts, "got": got, "scaled": scaled}


def ranks(query, documents, got, model="embed"):
    """Pairs of index and score, the best first."""
    got = [[int(index), float(score)] for index, score in got]
    return {"kind": "ranks", "query": query, "documents": documents, "got": got, "model": model}


def post(model, body, got, path="/"):
    """What a POST of this body answers, from the server of this model."""
    return {"kind": "post", "model": model, "path": path, "body": body, "got": got}


def same(got, wanted):
    return {"kind": "same", "got": got, "wanted": wanted}


def refused(call, *words):
    """The call must raise an exception whose text has all of these words."""
    try:
        call()
    except Exception as error:
        return {"kind": "refused", "got": str(error), "words": words}
    return {"kind": "refused", "got": "", "words": words}
