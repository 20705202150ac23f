"""Which tensors a model has, by the task that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batcher import NotReady
from service.api.oip.images import ImageClassifyTensors, ImageEmbedTensors
from service.api.oip.own import OwnTensors, declares_tensors
from service.api.oip.signature import Signature
from service.api.oip.texts import ClassifyTensors, EmbedTensors, ScoreTensors, SparseTensors
from service.catalog import ServedModel
from service.errors import WrongTask
from service.tasks.classify import Classify
from service.tasks.embed import Embed
from service.tasks.image_classify import ImageClassify
from service.tasks.image_embed import ImageEmbed
from service.tasks.score import Score
from service.tasks.sparse import Sparse

# In this order: a model of images and texts is an embedder of texts as well.
SIGNATURES: Mapping[str, Callable[[ServedModel], Signature]] = {
    ImageClassify.name: ImageClassifyTensors,
    ImageEmbed.name: ImageEmbedTensors,
    Embed.name: EmbedTensors,
    Sparse.name: SparseTensors,
    Classify.name: ClassifyTensors,
    Score.name: ScoreTensors,
}


def signature_of(served: ServedModel) -> Signature:
    """Raises NotReady, WrongTask."""
    if not served.is_decided:
        raise NotReady("the model is being loaded", retry_after=1.0)
    if declares_tensors(served):
        return OwnTensors(served)
    for task, make in SIGNATURES.items():
        if task in served.tasks:
            return make(served)
    raise WrongTask(
        f"{served.name} declares no tensors (`inputs` and `outputs` of batcher.Model): use POST"
        " /v1/predict or POST /"
    )


def has_signature(served: ServedModel) -> bool:
    return declares_tensors(served) or not SIGNATURES.keys().isdisjoint(
        {*served.tasks, *served.if_class}
    )
