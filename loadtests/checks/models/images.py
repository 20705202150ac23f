"""Images, and texts beside them, as transformers' pipelines and sentence-transformers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from loadtests.checks.models import pictures
from loadtests.checks.models.case import ALONE, TEXTS, Case
from loadtests.checks.models.distance import Distance
from loadtests.checks.models.served import post
from loadtests.models.vision import EDGE, FAMILIES

NAMES = ("two dogs", "a river", "naïve café", "x")  # of a zero-shot classification


def classes_reference(case: Case, at: Path) -> Any:
    import torch
    import transformers

    return transformers.pipeline("image-classification", str(at), device=-1, dtype=torch.float32)


def classes(
    case: Case, made: Any, http: TestClient, info: Mapping[str, Any], found: Distance
) -> None:
    files, labels = _files(case), sorted(made.model.config.id2label.values())

    def scores(data: bytes, **given: Any) -> list[float]:
        told = {e["label"]: e["score"] for e in made(pictures.opened(data), top_k=99, **given)}
        return [told[label] for label in labels]

    def ours(rows: Sequence[Mapping[str, Any]]) -> list[float]:
        told = {each["label"]: each["score"] for each in rows}
        return [told[label] for label in labels]

    expected = [scores(data) for data in files]
    together = {"inputs": [pictures.as_base64(data) for data in files], "parameters": {"top_k": 99}}
    found.add("POST /", [ours(rows) for rows in post(http, "/", together)], expected)
    for place in ALONE:
        one = {"inputs": pictures.as_base64(files[place]), "parameters": {"top_k": 99}}
        found.add("POST / alone", ours(post(http, "/", one)), expected[place])
        plain = made(pictures.opened(files[place]))
        rows = post(http, "/", files[place])  # five labels at most, as the pipeline's default
        names = [[each["label"] for each in told] for told in (rows, plain)]
        numbers = [[each["score"] for each in told] for told in (rows, plain)]
        if len(names[0]) == len(names[1]):
            found.add("POST /, the image itself", *numbers)
        else:
            found.add("POST /, the image itself", len(names[0]), len(names[1]))
    raw = [scores(data, function_to_apply="none") for data in files[:9]]
    body = {"inputs": [[pictures.data_uri(data)] for data in files[:9]], "raw_scores": True}
    found.add("/predict", [ours(rows) for rows in post(http, "/predict", body)], raw)


class Both:
    """A model of images and texts, as transformers loads it, or as sentence-transformers does."""

    def __init__(self, at: Path, kind: str) -> None:
        import transformers

        self._chain: Any = None
        if (at / "modules.json").is_file():
            from sentence_transformers import SentenceTransformer

            whole = SentenceTransformer(
                str(at), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
            )
            self._chain = SentenceTransformer(modules=[whole[0]], device="cpu")
            inner = at / "0_CLIPModel"
            at = inner if inner.is_dir() else at
        self.at = at
        self.model = transformers.AutoModel.from_pretrained(at, dtype="float32").eval()
        self._process = transformers.AutoImageProcessor.from_pretrained(at, backend="pil")
        self._tokenize = transformers.AutoTokenizer.from_pretrained(at)
        self._padding: dict[str, Any] = {}
        if FAMILIES[kind].padded:
            self._padding = {"padding": "max_length", "max_length": FAMILIES[kind].positions}

    def image(self, data: bytes) -> Any:
        import torch
        from PIL import ImageOps

        image = ImageOps.exif_transpose(pictures.opened(data)).convert("RGB")
        if self._chain is not None:
            return self._chain.encode(image, show_progress_bar=False)
        with torch.inference_mode():
            given = self._process(images=image, return_tensors="pt")
            return self.model.get_image_features(**given).pooler_output[0].numpy()

    def text(self, text: str) -> Any:
        import torch

        if self._chain is not None:
            return self._chain.encode(text, show_progress_bar=False)
        with torch.inference_mode():
            given = self._tokenize(text, return_tensors="pt", truncation=True, **self._padding)
            return self.model.get_text_features(**given).pooler_output[0].numpy()


def both_reference(case: Case, at: Path) -> Any:
    return Both(at, case.folder.kind)


def both(case: Case, made: Any, http: TestClient, info: Mapping[str, Any], found: Distance) -> None:
    """Every second input is a text."""
    import torch
    import transformers

    files, half = _files(case), case.count // 2
    texts = [*TEXTS[:4], *TEXTS[4 - half :]] if half > 4 else TEXTS[:half]
    images = files[: case.count - len(texts)]
    given = [*map(pictures.data_uri, images), *texts]
    expected = np.stack([*map(made.image, images), *map(made.text, texts)]).astype(np.float64)
    order = np.random.default_rng(3).permutation(len(given))
    mixed, right = [given[place] for place in order], expected[order]
    found.add("/embed", post(http, "/embed", {"inputs": mixed, "normalize": False}), right)
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    found.add("/embed, of length 1", post(http, "/embed", {"inputs": mixed}), right)
    for place in ALONE:
        [alone] = post(http, "/embed", {"inputs": mixed[place]})
        found.add("/embed alone", alone, right[place])
    data = post(http, "/v1/embeddings", {"input": mixed[:8]})["data"]
    found.add("/v1/embeddings", [each["embedding"] for each in data], right[:8])
    pipeline = transformers.pipeline(
        "zero-shot-image-classification", str(made.at), device=-1, dtype=torch.float32
    )
    for image in images[2:5]:
        told = pipeline(pictures.opened(image), candidate_labels=list(NAMES))
        parameters = {"candidate_labels": list(NAMES)}
        rows = post(http, "/", {"inputs": pictures.as_base64(image), "parameters": parameters})
        scores = [{each["label"]: each["score"] for each in one} for one in (rows, told)]
        found.add("POST /, zero-shot", *([of[name] for name in NAMES] for of in scores))


def _files(case: Case) -> list[bytes]:
    """All of the model's own size where its processor does not resize them."""
    resizes = case.folder.processor.get("do_resize", True)
    return pictures.files(case.count, None if resizes else (EDGE, EDGE))
