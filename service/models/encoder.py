"""A sentence encoder: a spec, a tokeniser, a backend that runs the model, how long batches take.

The model itself is the backend's affair, see backends/.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from batcher.runner import RunnerInfo
from service.cache.profiles import (
    Point,
    ProfileKey,
    content_of,
    saved_or_measured,
)
from service.models.backends import (
    Answers,
    Backend,
    Ids,
    Launch,
    LaunchingBackend,
    Place,
    Types,
    reference_answers,
)
from service.models.backends.choose import open_backend
from service.models.backends.fallback import Fallback
from service.models.backends.torch.agreement import check_alone
from service.models.backends.torch.eager import TorchBackend, load
from service.models.config import RunnerConfig
from service.models.heads import HEADS, head_of
from service.models.precision import choose_device, cpu_instructions, full_name, has_native_bf16
from service.models.profiling import measure
from service.models.rows import NotFinite, check_finite
from service.placement.cores import available_cores, default_threads
from service.repository.folder import Wanted
from service.repository.inspection import inspect
from service.repository.locate import find_model
from service.tasks.text import TextTokenizer

TASKS = ("auto", *HEADS)
WARM_UP_SHAPES = ((1, 8), (1, 8), (8, 16), (32, 32))  # inputs, tokens


# Facts of how the start chose a backend, which stay true when that one fails later.
_OF_THE_CHOICE = {"backend_chosen", "backend_ms"}


Payload = Ids | str | Mapping[str, Any]
"""Token ids, int32, as TextTokenizer makes them; a text; or named arrays: `input_ids`,
`token_type_ids` where a pair has them, and `all_tokens`, whatever is in it, where the answer is to
be the last hidden state of each token."""


class _Batch(NamedTuple):
    sequences: list[Ids]
    types: Types = None
    all_tokens: Sequence[int] = ()  # the places of the inputs that are to be answered so

    def run(self, backend: Backend) -> Answers:
        if not self.all_tokens:
            return backend.forward(self.sequences, self.types)
        answers, states = backend.with_tokens(self.sequences, self.all_tokens)
        mixed = list(answers)
        for place, each in zip(self.all_tokens, states, strict=True):
            mixed[place] = each
        return mixed


class EncoderRunner:
    """An encoder with the head of its task: to vectors, logits, or the weights of words."""

    def __init__(self, config: RunnerConfig) -> None:
        if config.task not in TASKS:
            raise ValueError(f"task {config.task!r} is not one of {', '.join(TASKS)}")
        self._config = config.settings
        self._placement, self._replicas = config.placement, config.replicas
        self._changed_facts: Mapping[str, object] | None = None
        self._close: Callable[[], None] | None = None  # None: nothing is open
        # Queues a batch and returns what waits for it, see Launch. None: the backend cannot.
        self.launch: Callable[[Sequence[Payload]], Callable[[], Sequence[Any]]] | None = None

    def warm_up(self) -> Mapping[str, object]:
        """Raises ModelNotFound, ModelNotSupported, DeviceNotFound, BackendNotAvailable,
        TooInaccurate, or what the model raises."""
        started = time.perf_counter()
        config = self._config
        place = self._place()
        wanted = Wanted(config.task, config.pooling, config.trust_remote_code)
        self._spec = inspect(
            find_model(config.model, config.revision), wanted, config.cache_dir, _say
        )
        self._pack = head_of(self._spec).pack
        self._tokenizer: TextTokenizer | None = None  # loaded with the first text
        _say(f"loading {config.model} from {self._spec.folder} on {place.device} …")
        opened = open_backend(config, self._spec, place, _say)
        self._backend: Backend = opened.backend
        backend = self._backend
        self._close = backend.close
        queue: Launch | None = backend.launch if isinstance(backend, LaunchingBackend) else None
        self._fallback: Fallback | None = None
        if queue is None and type(backend) is not TorchBackend and backend.name != "reference":
            self._fallback = Fallback(backend, self._plain(place), _say)
            self._close = self._fallback.close
        self.launch = queue and functools.partial(self._launch, queue)
        self._failed = dict(RunnerInfo.from_facts(opened.facts).backend_failed)
        self._about = {**opened.facts, **self._of_backend()}
        loaded = time.perf_counter()
        how = f"{self._backend.name} in {self._backend.dtype}"
        _say(f"loaded in {loaded - started:.1f} s: {how}; warming up …")
        if config.max_batch_size > 1:
            check_alone(backend, self._spec)
        self._exercise()
        profile, source = self._profile(place) if config.profile else ([], "")
        warm = time.perf_counter()
        _say(f"warm after {warm - loaded:.1f} s")
        facts = {"profile": [list(point) for point in profile], "profile_source": source}
        return {
            **(facts if profile else {}),
            "model": config.model,
            "task": self._spec.task,
            **self._about,
            "source": self._spec.source,
            "max_length": self._spec.max_length,
            **head_of(self._spec).info(self._spec),
            "load_seconds": round(loaded - started, 3),
            "warm_up_seconds": round(warm - loaded, 3),
        }

    def run(self, payloads: Sequence[Payload]) -> Sequence[Any]:
        """One answer each, as the head packs it, or a NotFinite: of vectors a float32 matrix (n,
        width), where none is bad."""
        if not payloads:
            return []
        batch = self._batch(payloads)
        try:
            answers = batch.run(self._backend)
        except Exception as error:
            answers = self._fall_back(batch, error)
        else:
            if self._fallback is not None:
                self._fallback.failures = 0
        return self._packed(answers)

    def changed_facts(self) -> Mapping[str, object] | None:
        return self._changed_facts

    def close(self) -> None:
        if self._close is not None:
            self._close()

    def _fall_back(self, batch: _Batch, failure: Exception) -> Answers:
        """What the backend has failed at, answered by PyTorch as it comes. Raises the failure."""
        if self._fallback is None:
            raise failure
        answers = self._fallback.answer(batch.run, failure)
        if self._backend is not self._fallback.running:  # it has failed too often
            self._backend = self._fallback.running
            self._failed |= self._fallback.failed
            gone = self._about.keys() - _OF_THE_CHOICE
            self._about = self._of_backend()
            self._changed_facts = {**dict.fromkeys(gone), **self._about}
        return answers

    def _of_backend(self) -> dict[str, object]:
        """What the facts say of the one that runs."""
        about = {"backend": self._backend.name, "dtype": self._backend.dtype}
        failed = {"backend_failed": dict(self._failed)} if self._failed else {}
        return {**about, **self._backend.facts(), **failed}

    def _plain(self, place: Place) -> Callable[[], Backend]:
        """PyTorch as it comes, in float32: whatever fails, this has the least that could."""
        device = torch.device(place.device)

        def opened() -> Backend:
            plain = TorchBackend(load(self._spec, device, torch.float32), self._spec, device)
            if (known := reference_answers.load(self._spec)) is not None:
                reference_answers.check(plain, self._spec, known)
            return plain

        return opened

    def _place(self) -> Place:
        device = choose_device(self._placement.device, torch.cuda.device_count())
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else pinned memory opens a context on device 0 as well
        # torch's own count knows physical cores, ours the container's quota.
        cores = min(torch.get_num_threads(), available_cores())
        torch.set_num_threads(self._placement.threads or default_threads(cores, self._replicas))
        return Place(
            str(device),
            full_name(device),
            torch.get_num_threads(),
            has_native_bf16(device),
            cpu_instructions(),
        )

    def _launch(self, queue: Launch, payloads: Sequence[Payload]) -> Callable[[], Sequence[Any]]:
        if not payloads:
            return list
        batch = self._batch(payloads)
        if batch.all_tokens:  # run when it is waited for, beside what is launched meanwhile
            return lambda: self._packed(batch.run(self._backend))
        collect = queue(batch.sequences, batch.types)
        return lambda: self._packed(collect())

    def _packed(self, answers: Answers) -> Sequence[Any]:
        checked, pack = check_finite(answers), self._pack
        if pack is None:
            return checked
        return [each if isinstance(each, NotFinite) else pack(each) for each in checked]

    def _batch(self, payloads: Sequence[Payload]) -> _Batch:
        """Raises ValueError for what the task has not."""
        bare = [p for p in payloads if isinstance(p, np.ndarray)]
        if len(bare) == len(payloads):
            return _Batch(bare)
        ids = [self._ids(p) for p in payloads]
        named = [p if isinstance(p, Mapping) else {} for p in payloads]
        task = f"this model (task {self._spec.task})"
        types = [each.get("token_type_ids") for each in named]
        has_types = any(own is not None and own.any() for own in types)
        if has_types and not self._spec.pairs_have_types:
            raise ValueError(f"token types, which {task} has not")
        all_tokens = [place for place, each in enumerate(named) if "all_tokens" in each]
        if all_tokens and (has_types or not head_of(self._spec).has_states):
            raise ValueError(f"all tokens, which {task} does not answer")
        pairs = zip(ids, types, strict=True)
        filled = [np.zeros_like(own) if given is None else given for own, given in pairs]
        return _Batch(ids, filled if has_types else None, all_tokens)

    def _ids(self, payload: Payload) -> Ids:
        if isinstance(payload, np.ndarray):
            return payload
        if isinstance(payload, Mapping):
            ids: Ids = payload["input_ids"]
            return ids
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer.load(self._spec)
        return self._tokenizer.encode(payload, truncate=True)

    def _exercise(self) -> None:
        for inputs, tokens in WARM_UP_SHAPES:
            length = min(tokens, self._spec.max_length)
            # One input shorter than the rest, so that the masked path is taken too.
            self.run([*self._rows(inputs - 1, length), *self._rows(1, max(1, length // 2))])

    def _profile(self, place: Place) -> tuple[list[Point], str]:
        """The points, and whether they are of the cache or measured just now."""
        key = ProfileKey(
            model=self._config.model,
            content=content_of(self._spec.folder),
            task=self._spec.task,
            device=place.device_name,
            backend=self._backend.name,
            dtype=self._backend.dtype,
            threads=place.threads,
            versions=self._backend.versions,
            padding_free=self._backend.facts().get("padding_free") is True,
        )
        return saved_or_measured(
            self._config.cache_dir,
            key,
            lambda: measure(self._time, self._spec.max_length, _say),
            _say,
        )

    def _time(self, inputs: int, length: int) -> float:
        """Seconds of one batch, padded as most are: one input is shorter than the rest."""
        shorter = max(1, length - 1) if inputs > 1 else length
        rows = [*self._rows(inputs - 1, length), *self._rows(1, shorter)]
        started = time.perf_counter()
        self.run(rows)
        return time.perf_counter() - started

    def _rows(self, inputs: int, length: int) -> list[Ids]:
        return [np.full(length, self._spec.vocab_size // 2, dtype=np.int32)] * inputs


def _say(line: str) -> None:
    print(line, flush=True)
