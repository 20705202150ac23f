"""How frames lie on the wire: the kinds, what each begins with, and the bounds. Little-endian.

A frame is HEAD, which is the length of its body and its kind, and the body.
"""

from __future__ import annotations

import struct

from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    RunnerFailed,
    WorkerLost,
)

VERSION = 1
MAX_BODY = 1 << 28  # bytes; a batch of 4,096 vectors of 16,384 numbers
MARK = b"btch"

HEAD = struct.Struct("<IB")
HELLO, SUBMIT, WITHDRAW, SETTLED, FAILED, ASK, TOLD = range(1, 8)

HELLO_BODY = struct.Struct("<4sH")
SUBMIT_BODY = struct.Struct("<QdBHI")  # and the caller, the costs, the payloads
WITHDRAW_BODY = struct.Struct("<QB")
REPORT = struct.Struct("<iIIQQddddB")  # and the reason
COUNT = struct.Struct("<I")
FAILED_BODY = struct.Struct("<QBd")  # and the text
NUMBER = struct.Struct("<Q")
NOBODY = 0xFFFF  # length of the caller's name: there is none

# In this order: the first that an error is an instance of is what it travels as.
ERRORS: tuple[type[BatcherError], ...] = (
    Overloaded,
    NotReady,
    Draining,
    DeadlineExceeded,
    Cancelled,
    OutOfMemory,
    RunnerFailed,
    PoisonRequest,
    WorkerLost,
)
