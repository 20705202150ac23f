"""A request for inference: the JSON, and the binary data behind it. Pure, so that large ones are
read off the event loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

from service.api import schemas
from service.api.oip.datatypes import BYTES, DATATYPES, numbers_from, texts_from
from service.api.oip.signature import Asked, InferParameters, Signature
from service.api.oip.tensors import (
    ANY,
    Tensor,
    TensorSpec,
    find_spec,
    raw_tensor,
    shape_from,
    tensor_of,
)
from service.errors import InputError, Problem, quote
from service.http.body import parse
from service.tasks.text_inputs import malformed, whole

Fields = TypeVar("Fields", bound=BaseModel)
CheckFields = Callable[[type[Fields], dict[str, Any]], Fields]
"""As AppState.fields has it."""

_MOST_TENSORS = 64  # in a request, or asked of it: what one is looked at for is more than its name
_MOST_CLASSES = 1 << 16  # texts, in one answer
_Size = Annotated[int, Field(ge=0), BeforeValidator(whole)]
_SHARED_MEMORY = "shared memory is not offered: send the tensor in the body"


class _Given(schemas.Body):
    id: str | None = None
    parameters: Any = None
    inputs: Any
    outputs: Any = None


class _GivenTensor(schemas.Body):
    name: str
    datatype: str
    shape: Any = None
    data: Any = None
    parameters: Any = None


class _TensorParameters(schemas.Body):
    binary_data_size: _Size | None = None
    shared_memory_region: Any = None


class _GivenOutput(schemas.Body):
    name: str
    parameters: Any = None


class _OutputParameters(schemas.Body):
    binary_data: bool | None = None
    classification: _Size | None = None
    shared_memory_region: Any = None


@dataclass(frozen=True, slots=True)
class WantedOutput:
    spec: TensorSpec
    is_binary: bool
    classes: int = 0  # of the highest; 0: the tensor as it is


@dataclass(frozen=True, slots=True)
class InferRequest:
    asked: Asked
    outputs: Sequence[WantedOutput]
    parameters: InferParameters
    id: str | None = None


_NO_PARAMETERS = InferParameters.model_validate({})


def read(
    data: bytes,
    json_size: int | None,  # as Inference-Header-Content-Length says; None: it is all JSON
    signature: Signature,
    limit: int,  # of the rows
    check: CheckFields[Any],
) -> InferRequest:
    """Raises InputError, Problem."""
    if json_size == 0:
        first, *others = signature.inputs
        if not all(each.is_optional for each in others):
            raise InputError("this model takes several inputs: send JSON", field="inputs")
        tensors: Mapping[str, Tensor] = {first.name: raw_tensor(first, memoryview(data))}
        outputs: Sequence[WantedOutput] = [
            WantedOutput(each, is_binary=True) for each in signature.outputs
        ]
        asked = signature.ask(tensors, _NO_PARAMETERS, limit)
        return InferRequest(asked, outputs, _NO_PARAMETERS)
    given = check(_Given, parse(data if json_size is None else data[:json_size]))
    parameters = _parameters(given.parameters, check)
    binary = None if json_size is None else memoryview(data)[json_size:]
    tensors = _tensors(given.inputs, binary, signature.inputs, check)
    outputs = _outputs(given.outputs, signature.outputs, parameters, check)
    asked = signature.ask(tensors, parameters, limit)
    for each in outputs:
        if each.classes * len(asked.rows) > _MOST_CLASSES:
            rule = (
                f"is {each.classes} for each of {len(asked.rows)} rows; ask for at most"
                f" {_MOST_CLASSES} in all"
            )
            raise InputError(rule, field=f"{each.spec.name}: classification")
    return InferRequest(asked, outputs, parameters, given.id)


def _parameters(given: object, check: CheckFields[Any]) -> InferParameters:
    if not given and given in (None, {}):
        return _NO_PARAMETERS
    parameters: InferParameters = _checked(InferParameters, given, "parameters", check)
    if parameters.sequence_id not in (None, 0, ""):
        raise _not_offered("sequences are not offered: no model keeps a state")
    return parameters


def _tensors(
    given: object,
    binary: memoryview | None,
    specs: Sequence[TensorSpec],
    check: CheckFields[Any],
) -> Mapping[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for place, each in enumerate(_listed(given, "inputs")):
        tensor: _GivenTensor = _checked(_GivenTensor, each, f"inputs[{place}]", check)
        if tensor.datatype not in DATATYPES:
            rule = f"must be one of {', '.join(DATATYPES)}, not {quote(tensor.datatype, 40)}"
            raise InputError(rule, field=f"inputs[{place}].datatype")
        spec = find_spec(specs, tensor.name, tensor.datatype)
        if spec.name in tensors:
            raise InputError("is there twice", field=spec.name)
        shape = shape_from(tensor.shape, spec.name)
        size = _binary_size(tensor, spec.name, check)
        if size is None:
            tensors[spec.name] = tensor_of(spec, shape, _from_json(tensor.data, spec))
            continue
        if binary is None:
            rule = "binary_data_size without the header Inference-Header-Content-Length"
            raise InputError(rule, field=spec.name)
        if size > len(binary):
            rule = f"binary_data_size is {size}, and {len(binary)} bytes are left of the body"
            raise InputError(rule, field=spec.name)
        tensors[spec.name] = tensor_of(spec, shape, binary[:size])
        binary = binary[size:]
    if binary:
        rule = f"the body has {len(binary)} bytes more than JSON and binary_data_size say"
        raise InputError(rule, field="inputs")
    return tensors


def _binary_size(tensor: _GivenTensor, name: str, check: CheckFields[Any]) -> int | None:
    """None: the data is JSON."""
    if tensor.parameters is None:
        return None
    field = f"{name}.parameters"
    parameters: _TensorParameters = _checked(_TensorParameters, tensor.parameters, field, check)
    if parameters.shared_memory_region is not None:
        raise _not_offered(_SHARED_MEMORY)
    if parameters.binary_data_size is not None and tensor.data is not None:
        raise InputError("has both data and binary_data_size", field=name)
    return parameters.binary_data_size


def _from_json(data: object, spec: TensorSpec) -> Any:
    if not isinstance(data, list):
        raise malformed(f"{spec.name}.data", "a list", data)
    try:
        return texts_from(data) if spec.datatype == BYTES else numbers_from(data, spec.datatype)
    except InputError as error:
        raise error.at(spec.name) from None


def _outputs(
    given: object,
    specs: Sequence[TensorSpec],
    parameters: InferParameters,
    check: CheckFields[Any],
) -> Sequence[WantedOutput]:
    all_binary = parameters.binary_data_output is True
    if given is None or given == []:
        return [WantedOutput(each, all_binary) for each in specs]
    wanted: dict[str, WantedOutput] = {}
    for place, each in enumerate(_listed(given, "outputs")):
        output: _GivenOutput = _checked(_GivenOutput, each, f"outputs[{place}]", check)
        spec = next((spec for spec in specs if spec.name == output.name), None)
        if spec is None:
            there = ", ".join(spec.name for spec in specs)
            rule = f"there is no output {quote(output.name, 40)}; this model has {there}"
            raise InputError(rule, field=f"outputs[{place}]")
        if spec.name in wanted:
            raise InputError(f"{spec.name} is there twice", field="outputs")
        told: _OutputParameters = _checked(
            _OutputParameters,
            {} if output.parameters is None else output.parameters,
            f"outputs[{place}].parameters",
            check,
        )
        if told.shared_memory_region is not None:
            raise _not_offered(_SHARED_MEMORY)
        if told.classification and (spec.datatype == BYTES or len(spec.shape) < 2):
            rule = f"{spec.name} has no classes: it is {spec.datatype} of shape {list(spec.shape)}"
            raise InputError(rule, field=f"outputs[{place}].parameters.classification")
        is_binary = all_binary if told.binary_data is None else told.binary_data
        classes = told.classification or 0
        if ANY not in spec.shape[1:]:
            classes = min(classes, math.prod(spec.shape[1:]))
        wanted[spec.name] = WantedOutput(spec, is_binary, classes)
    return list(wanted.values())


def _listed(given: object, name: str) -> list[Any]:
    if not isinstance(given, list):
        raise malformed(name, "a list of objects", given)
    if len(given) > _MOST_TENSORS:
        raise InputError(f"has {len(given)} entries; at most {_MOST_TENSORS} are taken", field=name)
    return given


def _checked(model: type[Fields], given: object, name: str, check: CheckFields[Any]) -> Fields:
    if not isinstance(given, dict):
        raise malformed(name, "an object", given)
    try:
        return check(model, given)  # type: ignore[no-any-return]  # of that model
    except InputError as error:
        raise error.at(f"{name}.{error.field}") from None


def _not_offered(what: str) -> Problem:
    return Problem(501, what)
