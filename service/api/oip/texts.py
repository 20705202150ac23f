"""The tensors of models that read texts: embedders, sparse encoders, classifiers, rerankers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.oip.datatypes import BYTES
from service.api.oip.signature import Asked, InferParameters
from service.api.oip.tensors import ANY, Output, Tensor, TensorSpec
from service.catalog import ServedModel
from service.errors import InputError
from service.tasks.classify import Classify
from service.tasks.embed import Embed, Unscaled, Vector
from service.tasks.pairs import Shared
from service.tasks.score import Score
from service.tasks.sparse import Sparse, SparseVector
from service.tasks.text_inputs import TextInput, check_count

TEXT = TensorSpec("text", BYTES, (ANY, 1))
_PAIR = TensorSpec("text_pair", BYTES, (ANY, 1), is_optional=True)
_QUERY = TensorSpec("query", BYTES, (ANY, 1))
_DOCUMENTS = TensorSpec("documents", BYTES, (ANY, 1))
_IDS = TensorSpec("input_ids", "INT64", (ANY, ANY), is_optional=True)
_MASK = TensorSpec("attention_mask", "INT64", (ANY, ANY), is_optional=True)
_NO_WORD = -1  # behind the last of a row


class EmbedTensors:
    """A text or the ids of its tokens in, a vector out."""

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(Embed)
        self._dimension = served.dimension
        self.inputs = _text_or_ids(served)
        self.outputs = (TensorSpec("embedding", "FP32", (ANY, served.dimension or ANY)),)

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        task, dimensions = self._task, parameters.dimensions
        check_dimensions(task, parameters, self._dimension)
        normalize = parameters.normalize is not False
        name, rows = _inputs_of(given, limit)

        def outputs(vectors: Sequence[Vector]) -> Mapping[str, Output]:
            kept = task.shorten(list(vectors), dimensions, normalize=normalize)
            return {"embedding": Output.of(np.stack(kept) if len(kept) > 1 else kept[0][None])}

        return Asked(task if normalize else Unscaled(task), rows, _rows_of(name), outputs)


class SparseTensors:
    """The words of each text that have a weight, in ascending order. Behind the last of a row with
    fewer words than another are -1 and 0."""

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(Sparse)
        self.inputs = _text_or_ids(served)
        self.outputs = (
            TensorSpec("indices", "INT32", (ANY, ANY)),
            TensorSpec("values", "FP32", (ANY, ANY)),
        )

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        name, rows = _inputs_of(given, limit)
        return Asked(self._task, rows, _rows_of(name), _padded)


class ClassifyTensors:
    """A text, or a pair of texts, in; a score for each label, and the likeliest label, out."""

    inputs = (TEXT, _PAIR)

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(Classify)
        self.outputs = label_outputs(self._task.labels)

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        firsts = texts_of(needed(given, TEXT), limit)
        rows: Sequence[Any] = firsts
        if _PAIR.name in given:
            seconds = texts_of(given[_PAIR.name], limit)
            _check_rows(_PAIR.name, len(seconds), TEXT.name, len(firsts))
            rows = list(zip(firsts, seconds, strict=True))
        return Asked(
            self._task,
            rows,
            _rows_of(TEXT.name),
            lambda logits: label_outputs_of(self._task, logits, is_raw=parameters.raw_scores),
        )


class ScoreTensors:
    """How relevant each document is to the query of its row, or to the only one."""

    inputs = (_QUERY, _DOCUMENTS)

    def __init__(self, served: ServedModel) -> None:
        self._task = served.task(Score)
        self.outputs = (TensorSpec("scores", "FP32", (ANY, 1)),)

    def ask(self, given: Mapping[str, Tensor], parameters: InferParameters, limit: int) -> Asked:
        documents = texts_of(needed(given, _DOCUMENTS), limit)
        queries = texts_of(needed(given, _QUERY), limit)
        if len(queries) == 1:
            queries = [Shared(queries[0])] * len(documents)
        _check_rows(_QUERY.name, len(queries), _DOCUMENTS.name, len(documents))

        def outputs(logits: Sequence[NDArray[np.float32]]) -> Mapping[str, Output]:
            found = np.stack(logits)
            # As reranking has it, whatever the model says: see ByPair.
            return {
                "scores": Output.of(
                    found if parameters.raw_scores else self._task.scores(found, "sigmoid")
                )
            }

        rows = list(zip(queries, documents, strict=True))
        return Asked(self._task, rows, _rows_of(_DOCUMENTS.name), outputs)


def check_dimensions(task: Embed, parameters: InferParameters, known: int | None) -> None:
    """Raises InputError."""
    try:
        task.check_dimensions(parameters.dimensions, known)
    except InputError as error:
        raise error.at("parameters.dimensions") from None


def label_outputs(labels: Sequence[str]) -> Sequence[TensorSpec]:
    return (
        TensorSpec("scores", "FP32", (ANY, len(labels)), labels=labels),
        TensorSpec("label", BYTES, (ANY, 1)),
    )


def label_outputs_of(
    task: Classify, logits: Sequence[NDArray[np.float32]], *, is_raw: bool | None
) -> Mapping[str, Output]:
    scores = np.stack([each if is_raw else task.scores(each) for each in logits])
    best = [task.labels[place] for place in np.stack(logits).argmax(axis=1).tolist()]
    return {"scores": Output.of(scores), "label": Output.of(best)}


def needed(given: Mapping[str, Tensor], spec: TensorSpec) -> Tensor:
    """Raises InputError."""
    if spec.name not in given:
        raise InputError(f"the input {spec.name} ({spec.datatype}) is missing", field="inputs")
    return given[spec.name]


def texts_of(tensor: Tensor, limit: int) -> list[str]:
    """Raises InputError, which names the row."""
    check_count(tensor.rows, tensor.name, limit)
    texts: list[str] = []
    for place, each in enumerate(tensor.values):
        try:
            texts.append(each if isinstance(each, str) else each.decode())
        except UnicodeDecodeError as error:
            rule = f"byte {error.start} is not of a text in UTF-8"
            raise InputError(rule, field=f"{tensor.name}[{place}]") from None
    return texts


def _text_or_ids(served: ServedModel) -> Sequence[TensorSpec]:
    return (TEXT,) if served.tokenizer is None else (TEXT, _IDS, _MASK)


def _inputs_of(given: Mapping[str, Tensor], limit: int) -> tuple[str, Sequence[TextInput]]:
    """The rows, and the tensor that they are of. Raises InputError."""
    if _IDS.name not in given:
        if _MASK.name in given:
            raise InputError("is of no use without input_ids", field=_MASK.name)
        return TEXT.name, texts_of(needed(given, TEXT), limit)
    if TEXT.name in given:
        raise InputError("send text or input_ids, not both", field="inputs")
    return _IDS.name, _ids_of(given[_IDS.name], given.get(_MASK.name), limit)


def _ids_of(ids: Tensor, mask: Tensor | None, limit: int) -> list[list[int]]:
    """Those that are not masked, of each row. Raises InputError."""
    check_count(ids.rows, ids.name, limit)
    assert isinstance(ids.values, np.ndarray)
    if mask is None:
        rows: list[list[int]] = ids.values.tolist()
    else:
        assert isinstance(mask.values, np.ndarray)
        if mask.shape != ids.shape:
            rule = f"is of shape {list(mask.shape)}, input_ids of {list(ids.shape)}"
            raise InputError(rule, field=mask.name)
        rows = []
        for place, (row, kept) in enumerate(zip(ids.values, mask.values, strict=True)):
            _check_mask(kept, f"{mask.name}[{place}]")
            rows.append(row[kept == 1].tolist())
    for place, row in enumerate(rows):
        if not row:
            raise InputError("has no tokens", field=f"{ids.name}[{place}]", kind="empty")
    return rows


def _check_mask(row: NDArray[Any], field: str) -> None:
    """Ones in a row, with zeros before or behind them: a token in between cannot be left out.
    Raises InputError."""
    steps = np.count_nonzero(np.diff(row))
    if not ((row == 0) | (row == 1)).all() or steps > 2 or (steps == 2 and row[0] == 1):
        raise InputError("must be ones side by side, and zeros around them", field=field)


def _check_rows(one: str, rows: int, other: str, wanted: int) -> None:
    if rows != wanted:
        raise InputError(f"has {rows} rows, and {other} has {wanted}", field=one)


def _rows_of(name: str) -> Any:
    return lambda place: f"{name}[{place}]"


def _padded(vectors: Sequence[SparseVector]) -> Mapping[str, Output]:
    most = max(len(each.indices) for each in vectors)
    indices = np.full((len(vectors), most), _NO_WORD, np.int32)
    values = np.zeros((len(vectors), most), np.float32)
    for row, each in enumerate(vectors):
        indices[row, : len(each.indices)] = each.indices
        values[row, : len(each.indices)] = each.weights
    return {"indices": Output.of(indices), "values": Output.of(values)}
