"""The answer of a model of the user's own: JSON, or the bytes that it made."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence

import numpy as np
import orjson

from batcher import Response, RunnerFailed

_AS_IT_IS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_MEDIA = re.compile(r"[\x20-\x7e]{1,256}")


def encode(outputs: Sequence[object]) -> tuple[bytes, bytes]:
    """The body and its media type. Raises RunnerFailed."""
    for place, output in enumerate(outputs):
        if isinstance(output, Response):
            return _of_bytes(output, place, len(outputs))
    return write(outputs), b"application/json"


def _of_bytes(response: Response, place: int, count: int) -> tuple[bytes, bytes]:
    if count > 1:
        raise RunnerFailed(
            f"the model's answer cannot be written as JSON: outputs[{place}] is bytes, which are"
            " the whole body of an answer: send one input at a time"
        )
    body, media = response.body, response.content_type
    if type(body) is not bytes or type(media) is not str or not _MEDIA.fullmatch(media):
        raise RunnerFailed("the model's Response must have bytes and a content type of ASCII")
    return body, media.encode()


def write(outputs: Sequence[object]) -> bytes:
    """Arrays as lists, numpy's numbers as numbers. Raises RunnerFailed for what JSON cannot say."""
    written = _dumps({"outputs": outputs})
    if b"null" in written:  # orjson writes NaN and infinity so
        for place, each in enumerate(outputs):
            if not _is_finite(each):
                raise RunnerFailed(
                    f"the model's answer cannot be written as JSON: outputs[{place}] holds NaN or"
                    " infinity"
                )
    return written


def _dumps(answer: object) -> bytes:
    """Raises RunnerFailed."""
    with contextlib.suppress(orjson.JSONEncodeError):  # most answers need no second look
        return orjson.dumps(answer, option=_AS_IT_IS)
    try:
        return orjson.dumps(_plain(answer), option=_AS_IT_IS)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise RunnerFailed(f"the model's answer cannot be written as JSON: {error}") from None


def _is_finite(value: object) -> bool:
    """Every number in it. Of what orjson has written: nested no deeper than that goes."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "O":
            return _is_finite(value.tolist())
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value)) and all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return True


def _plain(value: object) -> object:
    """Without what orjson does not take of numpy: arrays that are not in one piece, rare dtypes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
