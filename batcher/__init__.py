"""Dynamic request batching: many small concurrent calls become few large runs of a model.

    async with Engine(MyRunner) as engine:
        vector = await engine.submit("text")

The path of one request, which is also the order in which to read the files:

1. `client`      submit: a payload becomes a `request`, with a cost, a deadline, a priority and a
                 future.
2. `collector`   under the one lock. An input that runs already shares its row, and one answered
                 lately gets that answer (`scheduling/sharing`, `answer_cache`). The others go to
                 `scheduling/schedule`: `admission` refuses those that would be late, the rest wait
                 in `pending`.
3. `batching`    the thread of a free replica takes the next batch. `scheduling/schedule` says when
                 it is due, `selection` which requests are in it, within the `limits`, by what the
                 `replica_model` predicts; `dispatch` which of several replicas takes it.
4. `workers/`    `process` sends the batch over a `pipe` to the worker process, perhaps while the
                 batch before it still runs; there `child` runs it on the `runner`. A worker
                 that hangs is killed. What a failure means says `failures`, what follows from
                 it `supervision/recovery`: the batch runs again in halves, or goes back to the
                 front of the queue; an input that kills worker after worker is quarantined.
5. `settlement`  ends the batch: each request gets its outcome, once; the `ledger` counts it, and
                 the schedule learns how long the batch took.
6. `client`      carries the outcomes to the caller's event loop, in one wake-up.

`engine` starts and stops all of it; `remote/` is the same client from another process;
`scheduling/simulate` runs the same schedule in virtual time; `model` is what a user of the service
writes, and `stages/` the way of its inputs through CPU processes and the device's. Nothing here
knows HTTP or torch.
"""

from batcher.client import Client
from batcher.engine import Engine
from batcher.errors import (
    BadInput,
    BatcherError,
    CallTooLarge,
    Cancelled,
    DeadlineExceeded,
    Draining,
    InvalidPayload,
    NeverInTime,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    Refused,
    RunnerFailed,
    WorkerLost,
)
from batcher.limits import Limits
from batcher.model import File, Model, Request, Response, Tensor
from batcher.request import Answer, BatchReport
from batcher.runner import Runner, RunnerFactory
from batcher.snapshot import HistogramSnapshot, ReplicaSnapshot, Snapshot

__all__ = [
    "Answer",
    "BadInput",
    "BatchReport",
    "BatcherError",
    "CallTooLarge",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Draining",
    "Engine",
    "File",
    "HistogramSnapshot",
    "InvalidPayload",
    "Limits",
    "Model",
    "NeverInTime",
    "NotReady",
    "OutOfMemory",
    "Overloaded",
    "PoisonRequest",
    "Refused",
    "ReplicaSnapshot",
    "Request",
    "Response",
    "Runner",
    "RunnerFactory",
    "RunnerFailed",
    "Snapshot",
    "Tensor",
    "WorkerLost",
]
