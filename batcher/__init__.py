"""Dynamic request batching: many small concurrent calls become few large runs of a model.

    async with Engine(MyRunner) as engine:
        vector = await engine.submit("text")

The walk of one request, which is also the order to read the files in:

1. `client`     submit: a payload becomes a `request`, with a cost, a deadline, a priority and a
                future; its `equality` says which others have the same input.
2. `collector`  under the one lock: who asks for what runs already shares its row, or gets the
                answer from memory (`sharing`, `answers`). The others ask the `schedule`: its
                `admission` refuses who would be too late, and the rest wait (`pending`).
3. `batching`   the thread of a free replica asks for the next batch; `policy` says when it is due
                and what goes in it: within the `limits`, of like `lengths`, perhaps a moment later
                if callers come straight back (`regroup`), as fast as the `device` is by its `cost`.
4. `worker`     the batch crosses to the worker process (`pipe`), while the one before it may still
                run; there `hosting` has the `runner` run it, under the eyes of the `watchdog`. If
                that fails, `recovery` says what becomes of it: it is run again in halves (and kept
                under the `ceiling` of the device's memory), or goes back to the front of the queue;
                what kills again and again is put in `quarantine`.
5. `collector`  settles the batch: each request gets its outcome, once; the schedule and `stats`
                learn how long it took.
6. `futures`    carries the outcomes to the caller's event loop, in one wake-up.

`engine` builds and ends it all; `simulate` runs the same schedule in virtual time. Nothing in here
knows of HTTP or of torch.
"""

from batcher.client import Client
from batcher.engine import Engine
from batcher.errors import (
    BatcherError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    NotReady,
    OutOfMemory,
    Overloaded,
    PoisonRequest,
    Refused,
    RunnerFailed,
    WorkerLost,
)
from batcher.limits import Limits
from batcher.request import Answer, BatchReport
from batcher.runner import Runner, RunnerFactory
from batcher.snapshot import HistogramSnapshot, ReplicaSnapshot, Snapshot

__all__ = [
    "Answer",
    "BatchReport",
    "BatcherError",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Draining",
    "Engine",
    "HistogramSnapshot",
    "Limits",
    "NotReady",
    "OutOfMemory",
    "Overloaded",
    "PoisonRequest",
    "Refused",
    "ReplicaSnapshot",
    "Runner",
    "RunnerFactory",
    "RunnerFailed",
    "Snapshot",
    "WorkerLost",
]
