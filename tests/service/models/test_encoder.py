"""Answers against the reference library, on the real model and on tiny random ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.models import encoder, profiling
from service.models.backends import BackendNotAvailable
from service.models.create import create_runner
from service.models.rows import NotFinite
from service.repository.locate import find_model
from service.repository.spec import ModelNotSupported
from service.tasks.text import TextTokenizer
from tests.service.configs import runner_config
from tests.service.tiny import TINY_TEXTS, make_tiny, read_spec

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from service.cache.profiles import latest_profile
from service.models.backends.torch.eager import TorchBackend
from service.models.backends.torch.packed import PackedBackend
from service.models.encoder import EncoderRunner
from service.models.precision import DeviceNotFound, choose_device, choose_dtype, cpu_has_bf16

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SENTENCE = "The service gathers many small requests into few large ones. "
TEXTS = [
    "",
    "Hello",
    "A man is playing a flute in the garden.",
    "Ein Mann spielt Flöte; 男は笛を吹く。",
    "[CLS] literal special tokens [SEP] stay what they are [PAD]",
    SENTENCE * 3,
    "One cat, two cats; three (or four?) cats!",
    SENTENCE * 60,  # far over the limit of 256 tokens
]
Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def reference() -> Vectors:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(find_model(MINILM)), device="cpu")
    # One at a time: the reference's own answers move when it batches.
    return np.stack([model.encode(text, show_progress_bar=False) for text in TEXTS])


@pytest.fixture(scope="module")
def minilm() -> EncoderRunner:
    runner = EncoderRunner(runner_config(MINILM, device="cpu", dtype="float32"))
    runner.warm_up()
    return runner


def ids_of(texts: list[str], folder: Path | None = None) -> list[Any]:
    tokenizer = TextTokenizer.load(read_spec(folder or find_model(MINILM)))
    return [tokenizer.prepare(text).payload for text in texts]


def test_answers_equal_the_reference_library_in_float32(
    minilm: EncoderRunner, reference: Vectors
) -> None:
    alone = np.concatenate([minilm.run([ids]) for ids in ids_of(TEXTS)])
    np.testing.assert_allclose(alone[:, :-1], reference, atol=1e-5)


def test_batched_equals_alone_in_float32(minilm: EncoderRunner, reference: Vectors) -> None:
    batched = minilm.run(ids_of(TEXTS))
    assert isinstance(batched, np.ndarray)
    assert batched.dtype == np.float32
    np.testing.assert_allclose(batched[:, :-1], reference, atol=1e-5)


def test_an_answer_does_not_depend_on_its_place_in_the_batch(
    minilm: EncoderRunner, reference: Vectors
) -> None:
    backwards = np.asarray(minilm.run(ids_of(TEXTS[::-1])))
    np.testing.assert_allclose(backwards[:, :-1], reference[::-1], atol=1e-5)


def test_texts_are_tokenised_by_the_runner_itself(
    minilm: EncoderRunner, reference: Vectors
) -> None:
    got = np.asarray(minilm.run(TEXTS[:4]))
    np.testing.assert_allclose(got[:, :-1], reference[:4], atol=1e-5)


def test_no_payload_gives_no_result(minilm: EncoderRunner) -> None:
    assert len(minilm.run([])) == 0


def no_room_on_the_device(*_: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nDetails")


def no_room_in_main_memory(*_: Any) -> Any:
    return torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("forward", [no_room_on_the_device, no_room_in_main_memory])
def test_a_batch_that_does_not_fit_is_a_memory_error(
    minilm: EncoderRunner, monkeypatch: pytest.MonkeyPatch, forward: Any
) -> None:
    monkeypatch.setattr(PackedBackend, "_forward", forward)
    with pytest.raises(MemoryError, match="8 inputs do not fit"):
        minilm.run(ids_of(TEXTS))


def test_what_no_way_of_running_the_model_can_answer_stays_what_it_is(
    minilm: EncoderRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shapes_do_not_match(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    with monkeypatch.context() as fault:
        fault.setattr(PackedBackend, "_forward", shapes_do_not_match)
        fault.setattr(TorchBackend, "_forward", shapes_do_not_match)
        with pytest.raises(RuntimeError, match="shapes do not match"):
            minilm.run(ids_of(TEXTS))
    assert len(minilm.run(ids_of(TEXTS))) == len(TEXTS)
    assert minilm.changed_facts() is None


def test_bfloat16_points_the_same_way_as_the_reference(reference: Vectors) -> None:
    runner = EncoderRunner(runner_config(MINILM, device="cpu", dtype="bfloat16"))
    assert runner.warm_up()["dtype"] == "bfloat16"
    vectors = np.asarray(runner.run(ids_of(TEXTS[:6])))[:, :-1]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert (vectors * reference[:6]).sum(axis=1).min() >= 0.999


def test_a_bad_row_fails_alone(minilm: EncoderRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = minilm._backend.forward

    def poisoned(batch: Any, types: Any) -> Vectors:
        vectors = forward(batch, types).copy()
        vectors[1, 7] = np.nan
        return vectors

    ids = ids_of(TEXTS[:3])
    good = minilm.run(ids)
    monkeypatch.setattr(minilm._backend, "forward", poisoned)
    first, second, third = minilm.run(ids)
    assert isinstance(second, NotFinite)
    np.testing.assert_array_equal([first, third], [good[0], good[2]])


@pytest.mark.parametrize(
    ("kind", "pooling", "normalize"),
    [
        ("bert", "mean", False),
        ("bert", "cls", True),
        ("roberta", "mean", True),
        ("distilbert", "lasttoken", False),
        ("qwen2", "lasttoken", True),
    ],
)
def test_every_pooling_equals_the_reference_alone_and_batched(
    tmp_path: Path, kind: str, pooling: str, normalize: bool
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = make_tiny(tmp_path, kind, pooling, normalize=normalize)
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    unscaled = sentence_transformers.SentenceTransformer(modules=list(reference)[:2], device="cpu")
    raw = unscaled.encode(TINY_TEXTS, show_progress_bar=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    expected = np.concatenate([raw / lengths, lengths], axis=1)
    runner = EncoderRunner(runner_config(str(folder), device="cpu", dtype="float32"))
    facts = runner.warm_up()
    assert facts["normalize"] is normalize
    assert facts["dimension"] == 32
    ids = ids_of(TINY_TEXTS, folder)
    np.testing.assert_allclose(runner.run(ids), expected, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([runner.run([i]) for i in ids]), expected, atol=1e-5)


def test_roberta_is_run_up_to_its_last_position_and_no_further(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "roberta", "mean", normalize=True)
    spec = read_spec(folder)
    assert spec.max_length == 15  # 16 positions, and the first stands for padding
    runner = EncoderRunner(runner_config(str(folder), device="cpu", dtype="float32"))
    runner.warm_up()
    [ids] = ids_of(["one two " * 50], folder)
    assert len(ids) == 15
    assert np.isfinite(runner.run([ids])).all()


def test_missing_weights_are_an_error_and_not_random_numbers(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, "bert", "mean", normalize=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    runner = EncoderRunner(runner_config(str(folder), device="cpu"))
    with pytest.raises(ModelNotSupported, match="weights are missing"):
        runner.warm_up()


# What it runs on.


def test_a_replica_runs_where_it_was_placed_else_on_the_first_device() -> None:
    assert str(choose_device("cuda:1", 2)) == "cuda:1"
    assert [str(choose_device("auto", count)) for count in (2, 0)] == ["cuda:0", "cpu"]


@pytest.mark.parametrize(
    ("wanted", "count", "reason"),
    [
        ("cuda", 0, "sees no CUDA device"),
        ("cuda:3", 1, "has 1 CUDA device"),
        ("tpu", 1, "write cpu, cuda or cuda:0"),
        ("meta", 1, "not supported"),
        ("cuda:0,cuda:1", 2, "write cpu, cuda or cuda:0"),
    ],
)
def test_a_device_that_does_not_exist_is_named(wanted: str, count: int, reason: str) -> None:
    with pytest.raises(DeviceNotFound, match=reason):
        choose_device(wanted, count)


def test_dtype_auto_is_bfloat16_only_where_it_is_native() -> None:
    chosen = [
        str(choose_dtype("auto", device, bf16))
        for device, bf16 in [("cpu", True), ("cpu", False), ("cuda", True), ("cuda", False)]
    ]
    assert chosen == ["torch.bfloat16", "torch.float32", "torch.bfloat16", "torch.float16"]
    assert str(choose_dtype("float16", "cpu", True)) == "torch.float16"
    with pytest.raises(ValueError, match="'int8' is not one of auto, float32"):
        choose_dtype("int8", "cpu", True)


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("model name\t: a processor with avx512_bf16", False),
        ("", False),
    ],
)
def test_native_bfloat16_is_read_from_the_processor_flags(line: str, native: bool) -> None:
    assert cpu_has_bf16(f"processor\t: 0\n{line}\n") is native


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"backend": "torch", "dtype": "int8"}, "int8 is run by backend onnx"),
        ({"backend": "onnx", "dtype": "bfloat16"}, "onnx runs float32 and int8 on cpu"),
    ],
)
def test_a_backend_that_cannot_be_had_is_named(asked: dict[str, Any], reason: str) -> None:
    runner = EncoderRunner(runner_config(MINILM, device="cpu", **asked))
    with pytest.raises(BackendNotAvailable, match=reason):
        runner.warm_up()


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="task 'summarize' is not one of auto, embed"):
        create_runner("transformers", runner_config(MINILM, task="summarize"))


def test_the_front_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, service.processes.build as s, service.models, service.arguments as a;"
        f"spec = s.find_spec(a.load({{'model': {MINILM!r}}}));"
        "s.TextTokenizer.load(spec).prepare('a');"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_profile_is_measured_once_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "SIZES", (1, 2))
    monkeypatch.setattr(profiling, "LENGTHS", (8,))
    monkeypatch.setattr(profiling, "_LONGEST", 100.0)  # however busy this machine is
    model = str(make_tiny(tmp_path / "model", "bert", "mean", normalize=True))
    config = runner_config(
        model, device="cpu", dtype="float32", profile=True, cache_dir=str(tmp_path / "cache")
    )
    first = EncoderRunner(config).warm_up()
    assert first["profile_source"] == "measured"
    monkeypatch.setattr(encoder, "measure", None)  # whoever calls it fails
    second = EncoderRunner(config).warm_up()
    assert second["profile_source"] == "cache"
    assert second["profile"] == first["profile"]
    assert [point[:2] for point in second["profile"]] == [[1, 8], [2, 16]]  # type: ignore[attr-defined]
    found = latest_profile(str(tmp_path / "cache"), model, device="cpu")
    assert found is not None
    assert [list(point) for point in found.points] == first["profile"]


def test_nothing_is_measured_unless_asked_for(minilm: EncoderRunner) -> None:
    assert "profile" not in minilm.warm_up()
