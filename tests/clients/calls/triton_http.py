import numpy as np
import tritonclient.http as triton
from told import MODEL, TEXTS, refused, same, vectors

_NAME = MODEL.rpartition("/")[2]


def _client(urls):
    return triton.InferenceServerClient(urls["embed"].removeprefix("http://"))


def _texts(binary=True):
    given = triton.InferInput("text", [len(TEXTS)], "BYTES")
    given.set_data_from_numpy(np.array(TEXTS, dtype=object), binary_data=binary)
    return [given]


def _wanted(binary):
    return [triton.InferRequestedOutput("embedding", binary_data=binary)]


def binary_tensors(urls):
    return vectors(TEXTS, _client(urls).infer(MODEL, _texts()).as_numpy("embedding"))


def json_tensors(urls):
    answer = _client(urls).infer(
        _NAME, _texts(binary=False), outputs=_wanted(binary=False), request_id="7"
    )
    assert answer.get_response()["id"] == "7"
    return vectors(TEXTS, answer.as_numpy("embedding"))


def compressed(urls):
    answer = _client(urls).infer(
        MODEL,
        _texts(),
        request_compression_algorithm="gzip",
        response_compression_algorithm="deflate",
        priority=1,
        timeout=20_000_000,
    )
    return vectors(TEXTS, answer.as_numpy("embedding"))


def async_calls(urls):
    with triton.InferenceServerClient(
        urls["embed"].removeprefix("http://"), concurrency=4
    ) as client:
        pending = [client.async_infer(MODEL, _texts(), model_version="1") for _ in range(8)]
        answers = [each.get_result().as_numpy("embedding") for each in pending]
    return vectors(TEXTS * 8, np.concatenate(answers))


def as_it_is(urls):
    answer = _client(urls).infer(MODEL, _texts(), parameters={"normalize": False})
    return vectors(TEXTS, answer.as_numpy("embedding"), scaled=False)


def token_ids(urls):
    ids = triton.InferInput("input_ids", [1, 3], "INT64")
    ids.set_data_from_numpy(np.array([[101, 7592, 102]]))  # [CLS] hello [SEP]
    return vectors(["hello"], _client(urls).infer(MODEL, [ids]).as_numpy("embedding"))


def labels(urls):
    client = triton.InferenceServerClient(urls["classify"].removeprefix("http://"))
    given = triton.InferInput("text", [1], "BYTES")
    given.set_data_from_numpy(np.array(["a film"], dtype=object))
    best = [triton.InferRequestedOutput("scores", class_count=1)]
    answer = client.infer("any", [given], outputs=best).as_numpy("scores")[0][0].decode()
    label = client.infer("any", [given]).as_numpy("label")[0][0].decode()
    return same(answer.split(":")[2], label)


def metadata(urls):
    client = _client(urls)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_model_repository_index()[0]["state"] == "READY"
    assert client.get_model_config(MODEL)["max_batch_size"] > 0
    told = client.get_inference_statistics(MODEL)["model_stats"][0]
    assert told["inference_stats"]["success"]["count"] > 0
    return same(client.get_model_metadata(MODEL)["outputs"][0]["shape"], [-1, 384])


def a_wrong_name(urls):
    given = triton.InferInput("texts", [1], "BYTES")
    given.set_data_from_numpy(np.array(["a"], dtype=object))
    return refused(lambda: _client(urls).infer(MODEL, [given]), "400", "texts", "text (BYTES)")


def shared_memory(urls):
    call = _client(urls).get_system_shared_memory_status
    return refused(call, "501", "shared memory is not offered")
