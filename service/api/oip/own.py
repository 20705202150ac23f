"""The tensors of a model of the user's own, as it declares them: `inputs` and `outputs` of
batcher.Model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batcher import Response, RunnerFailed, Tensor
from service.api.oip import tensors
from service.api.oip.datatypes import BYTES, DATATYPES, NUMBERS, datatype_named
from service.api.oip.signature import Asked, InferParameters
from service.api.oip.tensors import ANY, Output, Shape, TensorSpec
from service.api.oip.texts import needed
from service.catalog import ServedModel
from service.errors import InputError
from service.tasks import tensors as declared
from service.tasks.custom import Predict
from service.tasks.text_inputs import check_count


def declares_tensors(served: ServedModel) -> bool:
    """Of both sides, and all of a datatype that Open Inference V2 has."""
    task = served.tasks.get(Predict.name)
    return (
        isinstance(task, Predict)
        and bool(task.inputs and task.outputs)
        and all(_datatype(each) in DATATYPES for each in (*task.inputs, *task.outputs))
    )


class OwnTensors:
    def __init__(self, served: ServedModel) -> None:
        """`served`: of which declares_tensors() is true."""
        self._task = served.task(Predict)
        self.inputs = tuple(map(_spec, self._task.inputs))
        self.outputs = tuple(map(_spec, self._task.outputs))

    def ask(
        self, given: Mapping[str, tensors.Tensor], parameters: InferParameters, limit: int
    ) -> Asked:
        first = self.inputs[0].name
        for spec in self.inputs:
            rows, wanted = needed(given, spec).rows, needed(given, self.inputs[0]).rows
            if rows != wanted:
                raise InputError(f"has {rows} rows, and {first} has {wanted}", field=spec.name)
        count = given[first].rows
        check_count(count, first, limit)
        columns = {each.name: _rows(given[each.name], each) for each in self._task.inputs}
        if len(columns) == 1:
            rows_of_all: list[declared.Row] = list(columns[first])
        else:
            rows_of_all = [
                {name: column[place] for name, column in columns.items()} for place in range(count)
            ]
        return Asked(self._task, rows_of_all, lambda place: f"row {place}", self._answered)

    def _answered(self, values: Sequence[Any]) -> Mapping[str, Output]:
        """Raises RunnerFailed for what is not as it was declared."""
        wanted = self._task.outputs
        if len(wanted) == 1:
            columns = {wanted[0].name: values}
        else:
            names = {each.name for each in wanted}
            for value in values:
                if not isinstance(value, Mapping) or not names <= value.keys():
                    raise RunnerFailed(
                        f"the model declares the outputs {', '.join(sorted(names))}, and has not"
                        " answered an object of these"
                    )
            columns = {name: [value[name] for value in values] for name in names}
        return {
            spec.name: _column(each, spec, columns[each.name])
            for each, spec in zip(wanted, self.outputs, strict=True)
        }


def _datatype(tensor: Tensor) -> str | None:
    return BYTES if tensor.dtype == declared.BYTES else datatype_named(tensor.dtype)


def _spec(tensor: Tensor) -> TensorSpec:
    """One value for each row is a column: perf_analyzer sends no tensor of one dimension."""
    datatype = _datatype(tensor)
    assert datatype is not None, "asked of a model that declares none: this is a bug"
    return TensorSpec(tensor.name, datatype, (ANY, *(tensor.shape or (1,))))


def _rows(given: tensors.Tensor, tensor: Tensor) -> Sequence[declared.Value]:
    if isinstance(given.values, np.ndarray):
        array = given.values if tensor.shape else given.values.reshape(-1)
        return list(array) if tensor.shape else [np.asarray(each) for each in array]
    elements = [each.encode() if isinstance(each, str) else each for each in given.values]
    if tensor.shape in ((), (1,)):
        return elements
    size = math.prod(given.shape[1:])
    return [elements[start : start + size] for start in range(0, size * given.rows, size or 1)]


def _column(tensor: Tensor, spec: TensorSpec, values: Sequence[Any]) -> Output:
    """The outputs of all rows as one tensor."""
    if spec.datatype == BYTES:
        rows = [_elements(value, spec) for value in values]
        shape: Shape = (len(rows[0]),)
        flat = [element for row in rows for element in row]
        _check_rows(spec, [(len(row),) for row in rows])
        return Output((len(rows), *shape), flat)
    dtype = NUMBERS[spec.datatype]
    arrays = []
    for value in values:
        try:
            array = np.asarray(value)
        except ValueError:
            raise RunnerFailed(f"{spec.name}: the model has answered no array") from None
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise RunnerFailed(
                f"{spec.name}: the model has answered {array.dtype}, not {tensor.dtype}"
            )
        arrays.append(array if tensor.shape else array.reshape(-1))
    _check_rows(spec, [array.shape for array in arrays])
    whole = np.stack(arrays)
    with np.errstate(over="ignore"):
        made = whole.astype(dtype, copy=False)
    is_same = np.isfinite(made) == np.isfinite(whole) if dtype.kind == "f" else made == whole
    if not is_same.all():
        raise RunnerFailed(f"{spec.name}: the model has answered a number beyond {tensor.dtype}")
    return Output.of(made)


def _elements(value: Any, spec: TensorSpec) -> list[bytes | str]:
    listed = value if isinstance(value, list | tuple) else [value]
    elements = [each.body if isinstance(each, Response) else each for each in listed]
    if all(isinstance(each, bytes | str) for each in elements):
        return elements
    raise RunnerFailed(f"{spec.name}: the model has answered neither bytes nor a text")


def _check_rows(spec: TensorSpec, shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        if len(shape) != len(spec.shape) - 1 or any(
            wanted not in (ANY, size) for wanted, size in zip(spec.shape[1:], shape, strict=True)
        ):
            raise RunnerFailed(
                f"{spec.name}: the model has answered shape {list(shape)}, not"
                f" {list(spec.shape[1:])}"
            )
        if shape != shapes[0]:
            rule = f"rows have shapes {list(shapes[0])} and {list(shape)}: send them one at a time"
            raise InputError(rule, field=spec.name)
