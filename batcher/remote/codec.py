"""Codec: messages as bytes, and back from whatever pieces they come in. No socket, loop or clock.

A frame is the length of its body, in four bytes, and its body: one message as MessagePack. It is
not pickle, so reading one runs no code.
"""

from __future__ import annotations

import msgspec
from msgspec.msgpack import Decoder, Encoder

from batcher.remote.messages import MARK, VERSION, FrameError, Hello, Message
from batcher.remote.values import Unsendable, unpack

MAX_BODY = 1 << 28  # bytes; a batch of 4,096 vectors of 16,384 numbers
_HEAD = 4  # bytes

_encode_into = Encoder().encode_into
_decode = Decoder(Message, ext_hook=unpack).decode


def encode(message: Message) -> bytearray:
    """Raises Unsendable if it does not fit in a frame."""
    frame = bytearray(_HEAD)
    try:
        _encode_into(message, frame, _HEAD)
    except (OverflowError, TypeError) as error:  # a cost of more than 64 bits, a number of numpy's
        raise Unsendable(str(error)) from None
    length = len(frame) - _HEAD
    if length > MAX_BODY:
        raise Unsendable(f"{length} bytes do not fit in a frame, which holds {MAX_BODY}")
    frame[:_HEAD] = length.to_bytes(_HEAD, "little")
    return frame


class FrameReader:
    """Puts frames together again. An error leaves it of no use: what follows cannot be trusted."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0  # bytes, in the pieces
        self._wanted = 0  # bytes, until there can be another whole frame
        self._is_greeted = False

    def feed(self, data: bytes) -> list[Message]:
        """Raises FrameError."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return []
        whole = data if len(self._pieces) == 1 else b"".join(self._pieces)
        messages: list[Message] = []
        start, end = 0, len(whole)
        self._wanted = _HEAD
        while end - start >= _HEAD:
            body = start + _HEAD
            length = int.from_bytes(whole[start:body], "little")
            if length > MAX_BODY:
                raise FrameError(f"a frame of {length} bytes; at most {MAX_BODY} are allowed")
            if end - body < length:
                self._wanted = _HEAD + length
                break
            start = body + length
            messages.append(self._read(whole[body:start]))
        rest = whole[start:]
        self._pieces, self._held = ([rest] if rest else []), len(rest)
        return messages

    def _read(self, body: bytes) -> Message:
        try:
            message = _decode(body)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise FrameError(f"a damaged frame: {error}") from None
        if not self._is_greeted:
            if not isinstance(message, Hello) or message.mark != MARK:
                raise FrameError("the first frame is not a greeting")
            if message.version != VERSION:
                raise FrameError(f"the other side speaks version {message.version}, not {VERSION}")
            self._is_greeted = True
        return message
