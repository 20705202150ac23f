"""A Model as a runner: the inputs of a batch through its methods, each input isolated from the
others where the method takes one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from batcher import BadInput, Model, RunnerFailed, Tensor
from batcher.failures import explain, is_device_lost, is_out_of_memory
from batcher.plain_data import NUMBERS, is_array
from service.models.own.find import FunctionModel
from service.models.own.steps import finished, overrides, prepared
from service.models.own.values import check_size, isolated, plain, rows_of, told
from service.tasks.packed import unpack_request


class ModelRunner:
    """`stages`: other processes do what one input needs alone, before and after this one."""

    def __init__(
        self,
        model: Model,
        name: str,
        device: str,
        *,
        max_output_bytes: int = 0,  # 0: no limit
        stages: bool = False,
    ) -> None:
        self._model = model
        self._name = name
        self._device = device
        self._limit = max_output_bytes
        self._prepares = not stages
        self._preprocesses = overrides(model, "preprocess")
        self._finishes = not stages and overrides(model, "postprocess")
        launch = getattr(model, "launch", None)  # a capability: most models have none
        self._launch_model: Callable[[Any], Callable[[], Any]] | None = launch
        self.launch = self._launch if launch is not None else None

    def warm_up(self) -> Mapping[str, object]:
        model = self._model
        model.setup(_device(self._device))
        if self._prepares:
            model.setup_cpu()
        return {
            "model": self._name,
            "is_function": isinstance(model, FunctionModel),
            "is_model": True,
            "preprocesses": overrides(model, "preprocess"),
            "postprocesses": overrides(model, "postprocess"),
            "states_cost": overrides(model, "cost"),
            "inputs": tensors(model.inputs, "inputs"),
            "outputs": tensors(model.outputs, "outputs"),
        }

    def run(self, payloads: Sequence[Any]) -> Any:
        values = self._prepared(payloads)
        good = [value for value in values if not _is_error(value)]
        outputs = self._predicted(good, self._model.predict) if good else ()
        return self._finished(values, outputs)

    def _launch(self, payloads: Sequence[Any]) -> Callable[[], Sequence[Any]]:
        assert self._launch_model is not None
        values = self._prepared(payloads)
        good = [value for value in values if not _is_error(value)]
        if not good:
            return lambda: self._finished(values, ())
        finish = self._launch_model(self._model.collate(good))
        return lambda: self._finished(values, self._predicted(good, lambda _: finish()))

    def close(self) -> None:
        """The process ends, and all with it."""

    def _prepared(self, payloads: Sequence[Any]) -> list[Any]:
        return isolated(self._prepare, payloads) if self._prepares else list(payloads)

    def _prepare(self, payload: Any) -> Any:
        return prepared(self._model, payload) if self._preprocesses else unpack_request(payload)

    def _predicted(self, values: list[Any], predict: Callable[[Any], Any]) -> Any:
        """One output for each value. Raises what `collate` and `predict` raise."""
        try:
            batch = self._model.collate(values)
            return rows_of(predict(batch), len(values))
        except BadInput as error:
            if len(values) > 1:  # which of them is known once the batch has been halved
                raise
            return [told(error)]
        except Exception as error:
            if _are_ragged(values) and not is_out_of_memory(error) and not is_device_lost(error):
                raise RunnerFailed(
                    f"{explain(error)} (the arrays of this batch have different shapes, so predict"
                    " got a list of them; define collate to make one input of them)"
                ) from error
            raise

    def _finished(self, values: Sequence[Any], outputs: Any) -> Any:
        is_whole = len(outputs) == len(values)
        if is_whole and is_array(outputs) and not self._finishes:  # it crosses faster whole
            check_size(outputs[0], self._limit)
            return outputs
        left = iter(outputs)
        return isolated(
            self._finish, [value if _is_error(value) else next(left) for value in values]
        )

    def _finish(self, output: Any) -> Any:
        if self._finishes:
            return finished(self._model, output, self._limit)
        return check_size(plain(output, "predict"), self._limit)


def tensors(given: Sequence[Tensor], where: str) -> list[tuple[str, str, list[int]]]:
    """What a model declares, checked: names, dtypes and shapes. Raises RunnerFailed."""
    checked: list[tuple[str, str, list[int]]] = []
    for each in given:
        try:
            name, dtype, shape = Tensor(*each)
            is_known = dtype == "bytes" or np.dtype(dtype).kind in NUMBERS - {"c"}
            sizes = [int(size) for size in shape]
        except (TypeError, ValueError) as error:
            raise RunnerFailed(f"{where} of the model: {each!r:.200}: {error}") from None
        if not is_known or type(name) is not str or not name or min(sizes, default=0) < -1:
            raise RunnerFailed(
                f"{where} of the model: {each!r:.200} must be a name, a dtype of numbers or bytes,"
                " and a shape of sizes, -1 for any"
            )
        checked.append((name, dtype if dtype == "bytes" else np.dtype(dtype).name, sizes))
    if len({name for name, _, _ in checked}) < len(checked):
        raise RunnerFailed(f"{where} of the model: two have the same name")
    return checked


def _device(placed: str) -> str:
    """`auto` is a GPU where torch, which the user's module has imported, has one."""
    if placed != "auto":
        return placed
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _is_error(value: Any) -> bool:
    return issubclass(type(value), Exception)


def _are_ragged(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(map(is_array, values)) and len({v.shape for v in values}) > 1
