"""What becomes of a batch that failed, and of each request in it. Pure: the batching thread acts.

| what happened              | the batch | a request in it                                       |
| -------------------------- | --------- | ----------------------------------------------------- |
| it raised, or ran out of   | of one    | fails with the model's own words                      |
| memory                     | of more   | runs again at once, in the half it is in              |
| the worker was lost: died, | any       | for the 1st time: first in the queue, with its mates  |
| hung, or sent garbage      |           | for the 2nd time: first in the queue, to run alone    |
|                            |           | for the 3rd time: fails as poison, and is quarantined |
| the same, at the very end  | any       | fails: the service has shut down                      |

A request whose deadline has passed or whose caller has gone does not run again. One culprit among b
costs 2·log2(b) extra runs if it raises, and two extra workers if it kills.
"""

from __future__ import annotations

import enum

from batcher.errors import BatcherError, WorkerLost


class Step(enum.Enum):
    FAIL = "its requests get the error"
    HALVE = "it runs again at once, in halves"
    REQUEUE = "its requests go back to the front of the queue"


def next_step(error: BatcherError, size: int, closing: bool) -> Step:
    if isinstance(error, WorkerLost):
        return Step.FAIL if closing else Step.REQUEUE
    return Step.HALVE if size > 1 else Step.FAIL
