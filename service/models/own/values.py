"""What a model of the user's own returned, as plain data that can cross to other processes."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from batcher import BadInput, BatcherError, Response, RunnerFailed
from batcher.failures import reason_of
from batcher.plain_data import is_array, is_numpy_scalar, refusal
from batcher.workers.child import one_each
from service.tasks.packed import pack_response


def isolated(step: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """The step's result for each value; an error takes the place of that which it failed on."""
    results: list[Any] = []
    for value in values:
        if issubclass(type(value), Exception):  # of the step before
            results.append(value)
            continue
        try:
            results.append(step(value))
        except Exception as error:  # whatever the user's code raises
            results.append(told(error))
    return results


def told(error: Exception) -> BatcherError:
    """What the caller gets; a traceback goes to the log."""
    if isinstance(error, BadInput):
        return BadInput(str(error))
    if not isinstance(error, RunnerFailed):
        traceback.print_exc()
    return RunnerFailed(reason_of(error))


def plain(value: Any, where: str) -> Any:
    """`where`: the method that returned it. Raises RunnerFailed for what cannot travel."""
    if refusal(value) is None:  # nearly every one
        return value
    value = _converted(value)
    if (why := refusal(value)) is not None:
        raise RunnerFailed(f"what {where} returned cannot be passed on: {why}")
    return value


def _converted(value: Any) -> Any:
    """Arrays for torch's tensors, bytes for a Response and for an image of Pillow's."""
    if isinstance(value, Response):
        return pack_response(value)
    if _is_tensor(value):
        return _array(value)
    if type(value).__module__.startswith("PIL.") and hasattr(value, "save"):
        written = io.BytesIO()
        value.save(written, "PNG")
        return pack_response(Response(written.getvalue(), "image/png"))
    if isinstance(value, Mapping):
        return {name: _converted(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_converted, value))
    return value


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _array(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16, which numpy does not have
        return tensor.float().numpy()


def rows_of(outputs: Any, count: int) -> Any:
    """What `predict` returned, one for each input. An array of numbers stays one. Raises
    RunnerFailed."""
    if _is_tensor(outputs):
        outputs = _array(outputs)
    if is_numpy_scalar(outputs) or (is_array(outputs) and not outputs.ndim):
        raise RunnerFailed("predict returned a single number, and not an output for each input")
    if is_array(outputs) and outputs.dtype.kind != "O" and len(outputs) == count:
        return outputs
    if isinstance(outputs, Mapping):
        return _rows_of_columns(outputs, count)
    try:
        return one_each(outputs, count)
    except RunnerFailed as error:
        raise RunnerFailed(str(error).replace("the runner", "predict", 1)) from None


def _rows_of_columns(outputs: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Of several outputs, an array each."""
    columns = {}
    for name, column in outputs.items():
        column = _array(column) if _is_tensor(column) else column
        if not (is_array(column) and column.ndim) and type(column) not in (list, tuple):
            raise RunnerFailed(
                f"predict returned a dict, and {name!r} in it is {type(column).__name__}: each"
                " must be an array with one row for each input"
            )
        if len(column) != count:
            raise RunnerFailed(f"predict returned {len(column)} of {name!r} for {count} inputs")
        columns[name] = column
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def check_size(value: Any, limit: int) -> Any:
    """The value. Raises RunnerFailed for one of more than `limit` bytes; 0: there is no limit."""
    if limit and _bytes_in(value, limit) > limit:
        raise RunnerFailed(
            f"an output is larger than {limit} bytes: BATCHER_MAX_BODY_BYTES sets the limit"
        )
    return value


def _bytes_in(value: Any, limit: int) -> int:
    """At least; exact for arrays and bytes. Counts no further than the limit."""
    if is_array(value):
        return int(value.nbytes)
    if type(value) in (str, bytes):
        return len(value)
    if type(value) not in (list, tuple, dict):
        return 1
    parts = value.values() if type(value) is dict else value
    total = 2
    for part in parts:
        total += _bytes_in(part, limit)
        if total > limit:
            break
    return total
